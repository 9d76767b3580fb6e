"""What holds a worker once a model is about to be loaded. Models are programs, and a crafted one may take over the process it runs in.

From here on the process reads the models and the libraries it runs on, computes, and speaks to the front over the pair it was
given: no network, no other programs, no writing, no signals to others, no privileges. What this machine's kernel cannot
hold it to is named, so that it can be told; the model is served all the same, for a device without these is still to do its work.
"""

from __future__ import annotations

import ctypes
import os
import resource
import stat
import sys
from pathlib import Path

from farshore.serve import landlock, seccomp

_PR_SET_NO_NEW_PRIVS = 38
_LIBRARIES = (
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/nix/store",
    "/gnu/store",
)
_FACTS = (
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys",
    "/sys/devices",
    "/sys/bus",
    "/sys/class",
    "/sys/fs/cgroup",
)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


def enter(models: Path, *, pipes: bool = False) -> tuple[str, ...]:
    """Give up, for good, what a model has no use for. Called before the first byte of a model is read, by a process of one thread.

    Args:
        models: the folder that versions lie in.
        pipes: pipes may be opened by name for writing; files still not, where Landlock holds.

    Returns:
        One text for each protection that this machine does not give; empty if all hold.

    """
    if sys.platform != "linux":
        return (f"{sys.platform} has neither seccomp nor Landlock",)
    machine, lacking = os.uname().machine, []
    _write_no_files()
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        lacking.append("privileges: the kernel is older than Linux 3.5")
    try:
        landlock.restrict(_readable(models))
    except OSError as error:
        lacking.append(f"files: Landlock is not to be had ({error.strerror or error}), it may read what this user may")
    try:
        if not seccomp.known(machine):
            raise OSError(f"there is no table for {machine}")
        seccomp.install(seccomp.program(machine, os.getpid(), pipes=pipes), machine)
    except OSError as error:
        lacking.append(f"network and programs: seccomp is not to be had ({error.strerror or error})")
    return tuple(lacking)


def _readable(models: Path) -> list[Path]:
    """The models, this Python with all it may still import, the system's libraries, and what the kernel says of the machine."""
    python = {sys.prefix, sys.base_prefix, sys.exec_prefix, *(entry for entry in sys.path if entry)}
    return [models, *map(Path, sorted(python)), *map(Path, (*_LIBRARIES, *_FACTS, *_DEVICES))]


def _write_no_files() -> None:
    """No byte to any file, also not through a descriptor that was open before; unless the log goes to one."""
    if not any(stat.S_ISREG(os.fstat(fd).st_mode) for fd in (1, 2) if _is_open(fd)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
