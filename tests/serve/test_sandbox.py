"""A model that has taken over its worker: what it tries is refused, and what it needs works. The code runs in a real worker."""

from __future__ import annotations

import ast
import json
import os
import platform
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from farshore.serve import frames, landlock, sandbox, seccomp
from farshore.serve.frames import Failed, Load, Reader

from .conftest import Device

pytestmark = pytest.mark.skipif(
    not (sys.platform == "linux" and seccomp.known(platform.machine())),
    reason="there is no seccomp table for this machine",
)

TAKEN_OVER = """
import errno, json, os, resource, socket, subprocess, sys, threading, ctypes
from farshore.core.errors import Invalid
from farshore.serve import engine, worker
root = os.path.abspath({root!r})
libc = ctypes.CDLL(None, use_errno=True)

def raw(*arguments):
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")

def attempt(act):
    try:
        return "done" if act() is None else "done"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    except BaseException as error:
        return type(error).__name__

def hostile(runtime, path, **how):
    model = path.parent
    found = {{name: attempt(act) for name, act in {{
        {attempts}
    }}.items()}}
    raise Invalid(json.dumps(found))

engine.load = hostile
sys.argv = ["worker", *{arguments!r}]
worker.main()
"""


@contextmanager
def spoken_to(code: str, arguments: list[str], fd: int, **more):
    process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[fd], **more)
    try:
        yield process
    finally:
        process.wait(60)


def tried(device: Device, attempts: dict[str, str], **more) -> dict[str, str]:
    """What became of each attempt, made in place of loading a model."""
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    arguments = [str(theirs.fileno()), str(os.getpid()), "0", "0"]
    lines = ",\n        ".join(f"{name!r}: lambda: {code}" for name, code in attempts.items())
    for code in attempts.values():
        ast.parse(code)
    code = TAKEN_OVER.format(root=str(device.root), attempts=lines, arguments=arguments)
    with spoken_to(code, arguments, theirs.fileno(), **more), ours:
        theirs.close()
        order = Load(str(device.root), "colours", device.colours(1), 1, 1 << 20)
        ours.sendall(frames.head(order, 0))
        reader, heard = Reader(), []
        while not heard:
            data = ours.recv(1 << 16)
            assert data, "the worker died"
            heard = list(reader.feed(data))
    message, _ = heard[0]
    assert isinstance(message, Failed)
    try:
        return json.loads(message.message)
    except ValueError:
        raise AssertionError(message.message) from None


def test_no_network(device: Device) -> None:
    found = tried(
        device,
        {
            "tcp": "socket.socket()",
            "udp": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
            "unix": "socket.socket(socket.AF_UNIX)",
            "netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
            "name service": "socket.create_connection(('127.0.0.1', 9))",
            "io_uring": "raw(425, 8, ctypes.create_string_buffer(120))",
        },
    )
    assert set(found.values()) <= {"EPERM", "ENOSYS"}, found


def test_no_other_programs_and_no_reaching_into_other_processes(device: Device) -> None:
    parent = os.getpid()
    found = tried(
        device,
        {
            "run": "subprocess.run(['/bin/true'])",
            "fork": "os.fork()",
            "spawn": "os.posix_spawn('/bin/true', ['true'], {})",
            "exec": "os.execv('/bin/true', ['true'])",
            "kill": f"os.kill({parent}, 0)",
            "kill the group": "os.killpg(os.getpgid(0), 0)",
            "kill all": "os.kill(-1, 0)",
            "limit": f"resource.prlimit({parent}, resource.RLIMIT_CPU, (1, 1))",
            "pidfd": f"os.pidfd_open({parent})",
            "memory": f"open('/proc/{parent}/mem', 'rb')",
            "environment": f"open('/proc/{parent}/environ', 'rb')",
            "terminal": "raw(16 if os.uname().machine == 'x86_64' else 29, 2, 0x5412, b'x')",
        },
    )
    assert set(found.values()) <= {"EPERM", "EACCES", "ENOSYS"}, found


def test_it_writes_nothing_anywhere(device: Device, tmp_path) -> None:
    (tmp_path / "mine").write_text("mine")
    found = tried(
        device,
        {
            "own folder": "open(model / 'new', 'wb')",
            "own model": "open(path, 'r+b')",
            "elsewhere": "open('/tmp/farshore-must-not-be', 'wb')",
            "append": f"open({str(tmp_path / 'mine')!r}, 'ab')",
            "truncate": f"os.truncate({str(tmp_path / 'mine')!r}, 0)",
            "empty": f"os.open({str(tmp_path / 'mine')!r}, os.O_RDONLY | os.O_TRUNC)",
            "unlink": f"os.unlink({str(tmp_path / 'mine')!r})",
            "rename": f"os.rename({str(tmp_path / 'mine')!r}, root + '/x')",
            "folder": "os.mkdir(root + '/x')",
            "link": "os.symlink('/', root + '/x')",
            "mode": "os.chmod(path, 0o777)",
            "mode of what is open": "os.fchmod(os.open(path, os.O_RDONLY), 0o777)",
            "shared memory": "open('/dev/shm/farshore-must-not-be', 'wb')",
        },
    )
    assert set(found.values()) <= {"EPERM", "EACCES"}, found
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.skipif(landlock.version() == 0, reason="this kernel has no Landlock")
def test_it_reads_models_and_libraries_and_not_the_devices_keys(device: Device) -> None:
    keys = device.root / "agent"
    keys.mkdir()
    (keys / "identity.json").write_text("secret")
    found = tried(
        device,
        {
            "keys": "open(root + '/agent/identity.json')",
            "list": "os.listdir(root)",
            "shadow": "open('/etc/shadow')",
            "home": "os.listdir(os.path.expanduser('~'))",
            "up and down": "open(str(model) + '/../../../../../agent/identity.json')",
            "model": "open(path, 'rb').read(1)",
            "library": "__import__('wave')",
        },
    )
    assert (found.pop("model"), found.pop("library")) == ("done", "done")
    assert set(found.values()) == {"EACCES"}, found


def test_what_a_model_needs_works(device: Device) -> None:
    found = tried(
        device,
        {
            "thread": "threading.Thread(target=print).start()",
            "memory": "bytearray(64 << 20)",
            "machine": "open('/proc/cpuinfo').read()",
            "chance": "os.urandom(8)",
            "itself": "os.kill(os.getpid(), 0)",
        },
    )
    assert set(found.values()) == {"done"}, found


def test_a_log_that_is_a_file_can_still_be_written(device: Device, tmp_path) -> None:
    with (tmp_path / "log").open("wb") as log:
        found = tried(device, {"told": "os.write(2, b'something odd') and None"}, stderr=log)
    assert found == {"told": "done"}
    assert b"something odd" in (tmp_path / "log").read_bytes()


def test_more_memory_than_the_machine_has_is_refused_at_once(device: Device) -> None:
    assert tried(device, {"memory": "bytearray(1 << 46)"}) == {"memory": "MemoryError"}


def test_what_this_machine_cannot_hold_it_to_is_named(tmp_path, monkeypatch) -> None:
    code = (
        "import sys; from pathlib import Path; from farshore.serve import sandbox, landlock, seccomp\n"
        "landlock.version = lambda: 0; seccomp.known = lambda machine: False\n"
        "print(*sandbox.enter(Path(sys.argv[1])), sep='\\n'); print(open('/etc/passwd').read(0))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    files, network, *_ = told.splitlines()
    assert "Landlock is not to be had" in files
    assert "seccomp is not to be had" in network
    monkeypatch.setattr(sys, "platform", "darwin")
    assert sandbox.enter(tmp_path) == ("darwin has neither seccomp nor Landlock",)


def test_a_worker_that_serves_is_shut_in(device: Device) -> None:
    """As the front starts it: the kernel says so of the process that answers."""
    from .conftest import picture, serve

    device.colours(1, activate=True)

    async def talk(client):
        await client.ready()
        assert (await client.score(picture((255, 51, 0))))[0] == 200
        children = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and parent_of(pid) == os.getpid()]
        return [status_of(pid) for pid in children if b"farshore.serve.worker" in command_of(pid)]

    found = serve(device, talk)
    assert found
    for status in found:
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"


def status_of(pid) -> dict[str, str]:
    with open(f"/proc/{pid}/status") as file:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}


def parent_of(pid) -> int:
    try:
        return int(status_of(pid)["PPid"])
    except (OSError, KeyError):
        return 0


def command_of(pid) -> bytes:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()
