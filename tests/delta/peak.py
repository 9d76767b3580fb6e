"""Makes or applies a patch and tells its peak of memory: ``python -m tests.delta.peak encode|decode BASE OTHER LEVEL|- MIB``.

What counts is private writable memory: pages of a mapped file are the page cache's, and given back when memory is short.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import resource
import sys
import threading
import time
from pathlib import Path

from farshore.delta import decode, encode


def status(name: str) -> int:
    """Bytes, as Linux tells them of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) << 10


class Peak(threading.Thread):
    """Looks at the process's private memory many times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.start_at = self.most = status("RssAnon")

    def run(self) -> None:
        while True:
            self.most = max(self.most, status("RssAnon"))
            time.sleep(0.002)


def mapped(path: str) -> memoryview:
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def chunks(path: str):
    with open(path, "rb") as file:
        while data := file.read(1 << 16):
            yield data


def main() -> None:
    """Do it, within MIB more than the process has at its start; print digest of what came out, bytes, seconds, peak."""
    what, base, other, level, most = sys.argv[1:]
    limit = status("VmData") + (int(most) << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    peak = Peak()
    peak.start()
    work = (
        decode(chunks(other), [mapped(base)])
        if what == "decode"
        else encode(mapped(other), [mapped(base)], level=level)
    )
    whole, size, began = hashlib.sha256(), 0, time.process_time()
    with open(f"{other}.patch" if what == "encode" else os.devnull, "wb") as out:
        for part in work:
            whole.update(part)
            size += len(part)
            out.write(part)
    told = {
        "sha256": whole.hexdigest(),
        "size": size,
        "seconds": time.process_time() - began,
        "peak": peak.most - peak.start_at,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
