"""An unmodified azure-iot-device, of Python or Node, in a process and an environment of its own, and addresses where port 8883 is free."""

import contextlib
import json
import os
import queue
import random
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PORT = 8883
"""Hard-coded in the SDK. Each hub listens at a loopback address of its own, so that tests need not take turns."""
PATIENCE = 60


def python(kind):
    """The interpreter of an SDK's environment; the test is skipped where that was not made."""
    made = ROOT / ".venv-azure" / kind
    if not (made / ".made").exists():
        pytest.skip(f"needs tests/sdks/{kind}.txt installed: make .venv-azure/{kind}/.made")
    return made / "bin" / "python"


def command(kind):
    """What runs an SDK's driver: ``node``, or an environment of Python; the test is skipped where that was not made."""
    drivers = ROOT / "tests" / "sdks"
    if kind != "node":
        return [python(kind), drivers / "driver.py"]
    node, packages = shutil.which("node"), ROOT / ".node-azure" / "node_modules"
    if node is None or not (packages / "azure-iot-device-mqtt").exists():
        pytest.skip("needs Node and azure-iot-device-mqtt: make node-sdk")
    return [node, drivers / "driver.js", packages]


def loopback():
    """A loopback address where port 8883 is free."""
    for _ in range(100):
        address = f"127.{random.randint(16, 254)}.{random.randint(1, 254)}.{random.randint(2, 254)}"
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((address, PORT))
            return address
    pytest.skip("this machine has no loopback address but 127.0.0.1, or port 8883 is taken at all of them")


def needs_port_443():
    """Skip the test where nobody but root may listen on 443, for an SDK that can name no other port."""
    try:
        with socket.socket() as probe:
            probe.bind((loopback(), 443))
    except PermissionError:
        pytest.skip("needs the right to listen on port 443: the SDK knows no other here")


class Sdk:
    """One SDK client, driven from here."""

    def __init__(self, kind, **environment):
        self.process = subprocess.Popen(
            command(kind), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **environment},
        )  # fmt: skip
        self.events, self._answers, self._last = queue.Queue(), {}, 0
        self.errors = ""
        self._new = threading.Condition()
        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._listen, self._complain)]
        for one in self._threads:
            one.start()

    def _listen(self):
        for line in self.process.stdout:
            found = json.loads(line)
            if "id" in found and "event" not in found:
                with self._new:
                    self._answers[found["id"]] = found
                    self._new.notify_all()
            else:
                self.events.put(found)

    def _complain(self):
        for line in self.process.stderr:
            self.errors += line

    def begin(self, do, **given):
        """Ask for something and do not wait; its number."""
        self._last += 1
        self.process.stdin.write(json.dumps({"id": self._last, "do": do, "with": given}) + "\n")
        self.process.stdin.flush()
        return self._last

    def result(self, number, seconds=PATIENCE):
        with self._new:
            assert self._new.wait_for(lambda: number in self._answers, seconds), f"no answer\n{self.errors[-3000:]}"
            return self._answers[number]

    def try_(self, do, **given):
        return self.result(self.begin(do, **given))

    def ask(self, do, **given):
        found = self.try_(do, **given)
        assert "error" not in found, f"{found}\n{self.errors[-3000:]}"
        return found.get("value")

    def next(self, event, seconds=PATIENCE, **having):
        """The next event of a kind; others before it are passed over."""
        passed = []
        while True:
            try:
                found = self.events.get(timeout=seconds)
            except queue.Empty:
                raise AssertionError(f"no {event} {having}; heard {passed}\n{self.errors[-3000:]}") from None
            if found["event"] == event and all(found.get(key) == value for key, value in having.items()):
                return found
            passed.append(found)

    def until(self, version, seconds=PATIENCE):
        """Patches up to the one with this ``$version``; that one."""
        while (found := self.next("patch", seconds)["value"])["$version"] < version:
            pass
        return found

    def close(self):
        self.process.kill()
        self.process.wait()
        for one in self._threads:
            one.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                pipe.close()
