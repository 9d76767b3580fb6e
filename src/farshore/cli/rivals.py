"""What other tools need for the same step: the best general compressors and delta tools, at their strongest settings.

A tool that is not installed is left out rather than guessed. Sizes are the same each time, so that they may be kept in a
cache file by the digests of both sides.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import lzma
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from farshore.delta import zstd

UNUSUAL = ("(xz lp=2)",)
"""Told by hand what is inside: nobody's default, kept with the others for honesty."""

NOT_GENERAL = (*UNUSUAL, "zip", "chunks")
"""Not among those that a patch is measured against: the last two are weaker than the rest."""

CHUNK_BITS, CHUNK_LEAST, CHUNK_MOST = 13, 2048, 65536
"""Chunks of 8 KiB on average, as stores of chunks for models use them at the smallest."""

Tool = Callable[[bytes, bytes], int]

_BRIEF = {
    "zstd -22 --patch-from": "zstd",
    "xz of a+b": "xz a+b",
    "xz -9e": "xz",
    "brotli 11": "brotli",
}


def brief(name: str) -> str:
    """A tool's name for the head of a column."""
    return _BRIEF.get(name, name)


def sizes(a: bytes, b: bytes, cache: Path | None = None) -> dict[str, int]:
    """Bytes that each installed tool needs to bring ``b`` to one who holds ``a``.

    Args:
        a: what is held; empty for nothing.
        b: what is wanted.
        cache: JSON file of sizes measured before; read and added to.

    """
    key = hashlib.sha256(hashlib.sha256(a).digest() + hashlib.sha256(b).digest()).hexdigest()
    known: dict[str, dict[str, int]] = json.loads(cache.read_text()) if cache and cache.exists() else {}
    row = known.setdefault(key, {})
    for name, run in tools().items():
        if name not in row:
            row[name] = run(a, b)
    if cache:
        cache.write_text(json.dumps(known))
    return dict(row)


def tools() -> dict[str, Tool]:
    """The tools that are installed here, by the name they have in a table."""
    found: dict[str, Tool] = {
        "zip": _zip,
        "xz -9e": lambda _, b: len(_xz(b)),
        "(xz lp=2)": lambda _, b: len(_xz_words(b)),
        "zstd -22 --patch-from": _zstd_patch,
        "xz of a+b": lambda a, b: len(_xz(a + b)) - len(_xz(a)),
        "chunks": _chunks,
    }
    if find_spec("brotli"):
        found["brotli 11"] = lambda _, b: len(_brotli(b))
        if find_spec("bsdiff4"):
            found["bsdiff*"] = _bsdiff
    if shutil.which("xdelta3"):
        found["xdelta3"] = _xdelta3
    return found


def _zip(_: bytes, b: bytes) -> int:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("model", b)
    return len(out.getvalue())


def _xz(data: bytes) -> bytes:
    return lzma.compress(data, format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE, preset=9 | lzma.PRESET_EXTREME)


def _xz_words(data: bytes) -> bytes:
    """Told by hand that the data are 4-byte words: nobody's default, shown beside the others for honesty."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 2, "pb": 2}]
    return lzma.compress(data, format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE, filters=filters)


def _brotli(data: bytes) -> bytes:
    packed: bytes = importlib.import_module("brotli").compress(data, quality=11, lgwin=24)
    return packed


def _zstd_patch(a: bytes, b: bytes) -> int:
    total = len(a) + len(b)
    return len(zstd.compress(b, 22, a, window_log=max(10, min(30, total.bit_length())), far=True))


def _bsdiff(a: bytes, b: bytes) -> int:
    """Its three streams (control, differences, extra), each packed anew by the better of xz and brotli."""
    streams = importlib.import_module("bsdiff4.core").diff(a, b)
    return 32 + sum(min(len(_xz(stream)), len(_brotli(stream))) for stream in streams)


def _xdelta3(a: bytes, b: bytes) -> int:
    with tempfile.TemporaryDirectory() as folder:
        base, target, out = (Path(folder) / name for name in ("a", "b", "p"))
        base.write_bytes(a)
        target.write_bytes(b)
        window = str(max(len(a), 1 << 19))
        subprocess.run(["xdelta3", "-9", "-S", "djw", "-B", window, "-e", "-f", "-s", base, target, out], check=True)
        return out.stat().st_size


def _chunks(a: bytes, b: bytes) -> int:
    """As casync and desync do it: cut where the content says so, and send the chunks that are not held, with an index."""
    held = {hashlib.sha256(chunk).digest() for chunk in _cut(a)}
    size = 0
    for chunk in _cut(b):
        name = hashlib.sha256(chunk).digest()
        size += 40  # in the index: a name and a place
        if name not in held:
            held.add(name)
            size += len(zstd.compress(chunk, 19))
    return size


def _cut(data: bytes) -> Iterator[bytes]:
    """Content-defined chunks: a gear hash over the last 32 bytes decides."""
    table = np.random.default_rng(0).integers(0, 1 << 32, 256, np.uint32)
    marks = table[np.frombuffer(data, np.uint8)]
    gear = np.zeros(len(data), np.uint32)
    for back in range(min(32, len(data))):
        gear[back:] += marks[: len(data) - back] << np.uint32(back)
    start = 0
    for end in (np.flatnonzero(gear >> np.uint32(32 - CHUNK_BITS) == 0) + 1).tolist():
        while end - start > CHUNK_MOST:
            yield data[start : start + CHUNK_MOST]
            start += CHUNK_MOST
        if end - start >= CHUNK_LEAST:
            yield data[start:end]
            start = end
    for at in range(start, len(data), CHUNK_MOST):
        yield data[at : at + CHUNK_MOST]
