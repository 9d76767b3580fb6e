"""What a worker may ask of the kernel: a filter on system calls that leaves files to read, memory and threads, and no more.

It lists what is refused, not what is allowed: a device far away must not lose its model because a newer C library asks for a call
that nobody thought of. What could reach other processes, the network, or the system's state is refused by name; calls
that carry their arguments in memory, where a filter cannot look, look as if the kernel did not have them.

Numbers are the kernel's (``asm/unistd_64.h``, ``asm-generic/unistd.h``), the program's form that of ``linux/filter.h`` and
``linux/seccomp.h``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000  # on x86-64, the same calls once more under other numbers
_CALL = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_THREAD = 0x00010000
_TYPE_INTO_TERMINAL = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX

_Numbers = dict[str, tuple[int | None, int | None]]

NETWORK: _Numbers = {
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242),
}  # fmt: skip
PROCESSES: _Numbers = {
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "process_mrelease": (448, 448), "kcmp": (312, 272), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
    "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
}  # fmt: skip
SYSTEM: _Numbers = {
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "mount_setattr": (442, 442),
    "move_mount": (429, 429), "open_tree": (428, 428), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "setns": (308, 268), "unshare": (272, 97), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "syslog": (103, 116),
    "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171), "sethostname": (170, 161),
    "setdomainname": (171, 162), "iopl": (172, None), "ioperm": (173, None), "personality": (135, 92),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "vhangup": (153, 58), "fanotify_init": (300, 262),
}  # fmt: skip
FILES: _Numbers = {
    "creat": (85, None), "truncate": (76, 45), "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276),
    "unlink": (87, None), "unlinkat": (263, 35), "rmdir": (84, None), "mkdir": (83, None), "mkdirat": (258, 34),
    "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "mknod": (133, None),
    "mknodat": (259, 33), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None),
    "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
}  # fmt: skip
UNKNOWN: _Numbers = {
    "clone3": (435, 435), "openat2": (437, 437), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}  # fmt: skip
WEIGHED: _Numbers = {
    "open": (2, None), "openat": (257, 56), "clone": (56, 220), "kill": (62, 129), "tgkill": (234, 131),
    "prlimit64": (302, 261), "ioctl": (16, 29),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Rule:
    """What is asked of one argument of a weighed call: refuse ``error`` if it holds, allow if not."""

    call: str
    argument: int
    test: int
    values: tuple[int, ...]
    refuse_if: bool
    error: int


def known(machine: str) -> bool:
    """Whether there is a table for this kind of machine (as ``os.uname`` names it) and this process is 64 bits wide."""
    return machine in _ARCHITECTURES and struct.calcsize("P") == 8


def program(machine: str, pid: int, *, pipes: bool = False) -> bytes:
    """The filter, in the kernel's form.

    Args:
        machine: a :func:`known` one.
        pid: of the process that will live under it: it may signal itself.
        pipes: what may be opened for writing is left to Landlock, which knows pipes from files.

    """
    column = list(_ARCHITECTURES).index(machine)
    code = [
        _op(_LOAD, _ARCHITECTURE), _op(_EQUAL, _ARCHITECTURES[machine], 1, 0), _op(_RETURN, _REFUSE | errno.EPERM),
        _op(_LOAD, _NUMBER), _op(_AT_LEAST, _X32, 0, 1), _op(_RETURN, _REFUSE | errno.ENOSYS),
    ]  # fmt: skip
    for table, error in (
        (NETWORK, errno.EPERM), (PROCESSES, errno.EPERM), (SYSTEM, errno.EPERM), (FILES, errno.EACCES),
        (UNKNOWN, errno.ENOSYS),
    ):  # fmt: skip
        for numbers in table.values():
            number = numbers[column]
            if number is not None:
                code += [_op(_EQUAL, number, 0, 1), _op(_RETURN, _REFUSE | error)]
    for rule in _rules(pid)[2 if pipes else 0 :]:
        number = WEIGHED[rule.call][column]
        if number is not None:
            code += _weighed(number, rule)
    return b"".join([*code, _op(_RETURN, _ALLOW)])


def install(code: bytes, machine: str) -> None:
    """Put this process, all its threads, under a filter; privileges that a program could gain must be given up before.

    Raises:
        OSError: the kernel does not take it.

    """

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))

    held = ctypes.create_string_buffer(code, len(code))
    what = Program(len(code) // 8, ctypes.cast(held, ctypes.c_char_p))
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(_CALL[machine], _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(what))
    if result:
        number = ctypes.get_errno() if result < 0 else errno.EBUSY  # > 0 names a thread that could not follow
        raise OSError(number, os.strerror(number))


def _rules(pid: int) -> tuple[_Rule, ...]:
    return (
        _Rule("open", 1, _ANY_BIT, (_WRITES,), refuse_if=True, error=errno.EACCES),
        _Rule("openat", 2, _ANY_BIT, (_WRITES,), refuse_if=True, error=errno.EACCES),
        _Rule("clone", 0, _ANY_BIT, (_THREAD,), refuse_if=False, error=errno.EPERM),
        _Rule("kill", 0, _EQUAL, (pid,), refuse_if=False, error=errno.EPERM),
        _Rule("tgkill", 0, _EQUAL, (pid,), refuse_if=False, error=errno.EPERM),
        _Rule("prlimit64", 0, _EQUAL, (0, pid), refuse_if=False, error=errno.EPERM),
        _Rule("ioctl", 1, _EQUAL, _TYPE_INTO_TERMINAL, refuse_if=True, error=errno.EPERM),
    )


def _weighed(number: int, rule: _Rule) -> list[bytes]:
    """If it is that call: look at one argument (its lower half, which is all the kernel looks at in these calls) and return."""
    refuse, allow = _op(_RETURN, _REFUSE | rule.error), _op(_RETURN, _ALLOW)
    holds, else_ = (refuse, allow) if rule.refuse_if else (allow, refuse)
    tests = [_op(rule.test, value, len(rule.values) - index, 0) for index, value in enumerate(rule.values)]
    body = [_op(_LOAD, _ARGUMENTS + 8 * rule.argument), *tests, else_, holds]
    return [_op(_EQUAL, number, 0, len(body)), *body]


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)
