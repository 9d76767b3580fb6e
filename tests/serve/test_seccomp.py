"""The filter as a machine runs it: both architectures' programs are interpreted here, and their numbers compared with the kernel's headers."""

from __future__ import annotations

import errno
import os
import re
import struct
from pathlib import Path

import pytest

from farshore.serve import seccomp

PID = 4321
ALLOWED = 0
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
TABLES = (seccomp.NETWORK, seccomp.PROCESSES, seccomp.SYSTEM, seccomp.FILES, seccomp.UNKNOWN, seccomp.WEIGHED)
EVERYDAY = {  # what computing threads ask for all the time
    "x86_64": {"read": 0, "write": 1, "mmap": 9, "futex": 202, "sendto": 44, "recvfrom": 45, "exit_group": 231, "sched_setaffinity": 203},
    "aarch64": {"read": 63, "write": 64, "mmap": 222, "futex": 98, "sendto": 206, "recvfrom": 207, "exit_group": 94, "sched_setaffinity": 122},
}  # fmt: skip


def answer(machine: str, number: int, *arguments: int, audit: int | None = None) -> int:
    """What the filter says of a call: 0 to allow it, else the error. A reading of ``linux/bpf_common.h``."""
    code = seccomp.program(machine, PID)
    steps = [struct.unpack_from("<HBBI", code, at) for at in range(0, len(code), 8)]
    data = struct.pack("<IIQ6Q", number, AUDIT[machine] if audit is None else audit, 0, *(*arguments, *[0] * 6)[:6])
    at = held = 0
    while True:
        operation, if_true, if_false, value = steps[at]
        at += 1
        if operation == 0x20:
            [held] = struct.unpack_from("<I", data, value)
        elif operation == 0x06:
            return ALLOWED if value == 0x7FFF0000 else value & 0xFFFF
        else:
            holds = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[operation]
            at += if_true if holds else if_false


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request):
    return request.param


def number_of(machine, name):
    [table] = [table for table in TABLES if name in table]
    return table[name][machine == "aarch64"]


def test_every_call_of_the_tables_is_refused(machine):
    errors = zip(TABLES, (errno.EPERM, errno.EPERM, errno.EPERM, errno.EACCES, errno.ENOSYS), strict=False)
    for table, error in errors:
        for name in table:
            number = number_of(machine, name)
            if number is not None:
                assert answer(machine, number) == error, name


def test_computing_is_allowed(machine):
    for name, number in EVERYDAY[machine].items():
        assert answer(machine, number) == ALLOWED, name


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("openat", (0, 0, os.O_RDONLY), 0),
        ("openat", (0, 0, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY), 0),
        ("openat", (0, 0, os.O_WRONLY), errno.EACCES),
        ("openat", (0, 0, os.O_RDWR), errno.EACCES),
        ("openat", (0, 0, os.O_RDONLY | os.O_CREAT), errno.EACCES),
        ("openat", (0, 0, os.O_RDONLY | os.O_TRUNC), errno.EACCES),
        ("clone", (0x3D0F00,), 0),  # as the C library starts a thread
        ("clone", (17,), errno.EPERM),  # as it forks
        ("kill", (PID, 9), 0),
        ("kill", (1, 9), errno.EPERM),
        ("kill", (0, 9), errno.EPERM),
        ("kill", (-1 & (1 << 64) - 1, 9), errno.EPERM),
        ("tgkill", (PID, PID, 6), 0),
        ("tgkill", (1, 1, 6), errno.EPERM),
        ("prlimit64", (0, 7), 0),
        ("prlimit64", (PID, 7), 0),
        ("prlimit64", (1, 7), errno.EPERM),
        ("ioctl", (2, 0x5413), 0),
        ("ioctl", (2, 0x5412), errno.EPERM),
        ("ioctl", (2, 0x541C), errno.EPERM),
    ],
)
def test_calls_that_are_weighed_by_an_argument(machine, name, arguments, error):
    assert answer(machine, number_of(machine, name), *arguments) == error


def test_open_by_its_old_number():
    assert answer("x86_64", 2, 0, os.O_RDONLY) == ALLOWED
    assert answer("x86_64", 2, 0, os.O_WRONLY) == errno.EACCES


def test_other_ways_to_number_calls_lead_nowhere(machine):
    assert answer(machine, 63, audit=0x40000003) == errno.EPERM  # 32-bit x86
    assert answer("x86_64", 0x40000000 + 41) == errno.ENOSYS  # x32


def test_the_numbers_are_the_kernels(machine):
    header = HEADERS[machine]
    if not header.exists():
        pytest.skip(f"{header} is not here")
    found = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
    seen = 0
    for table in TABLES:
        for name in table:
            number = number_of(machine, name)
            if name in found:
                assert number == int(found[name]), name
                seen += 1
            else:
                assert number is None or number > 440, f"{name} is not in {header}"  # younger than the header
    assert seen > 60


def test_machines_without_a_table():
    assert not seccomp.known("riscv64")
    assert seccomp.known("x86_64") == (struct.calcsize("P") == 8)
