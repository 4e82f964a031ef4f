"""A filter of system calls for code that a model wrote: no new processes, no way into others.

A program of the kernel's classic BPF. Threads are allowed, processes are not: a limit on their
number (RLIMIT_NPROC) does not hold for root, and a process that outlives its parent is one more
thing to be sure of. An answer runs beside the process that made it, under the same user, so what
one process may do to another of its user is refused too: signals (also those that a file sends to
its owner), limits, priorities, the processors it may use. So is what the limits of a process do not
count (files in memory, keys) and what no namespace hides (the kernel's log, sockets to the host of
a virtual machine). Calls are refused with EPERM, which Python raises as PermissionError. Source:
linux/seccomp.h, linux/filter.h, the kernel's tables of system calls.
"""

from __future__ import annotations

import ctypes
import os
import struct

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_SET_NO_NEW_PRIVILEGES, _SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_STEP = 8
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24  # offsets in struct seccomp_data
_CLONE_THREAD = 0x10000
_X32 = 0x40000000

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE = {"x86_64": 56, "aarch64": 220}
_PRLIMIT = {"x86_64": 302, "aarch64": 261}
_FCNTL = {"x86_64": 72, "aarch64": 25}
_IOCTL = {"x86_64": 16, "aarch64": 29}
_CLONE3 = 435
_OWNER_BY_FCNTL = (8, 10, 15)  # F_SETOWN F_SETSIG F_SETOWN_EX
_OWNER_BY_IOCTL = (0x8901, 0x8902)  # FIOSETOWN SIOCSPGRP
_REFUSED = {
    # fork vfork ptrace unshare setns mount umount2 keyctl bpf perf_event_open userfaultfd
    # process_vm_readv process_vm_writev io_uring_setup pidfd_getfd pidfd_open pidfd_send_signal
    # kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo shmget semget msgget mq_open
    # socket memfd_create memfd_secret add_key request_key syslog kcmp fanotify_init
    # setpriority sched_setparam sched_setscheduler sched_setaffinity sched_setattr ioprio_set
    # process_madvise process_mrelease migrate_pages move_pages
    "x86_64": (
        57, 58, 101, 272, 308, 165, 166, 250, 321, 298, 323,
        310, 311, 425, 438, 434, 424,
        62, 200, 234, 129, 297, 29, 64, 68, 240,
        41, 319, 447, 248, 249, 103, 312, 300,
        141, 142, 144, 203, 314, 251,
        440, 448, 256, 279,
    ),
    "aarch64": (
        117, 97, 268, 40, 39, 219, 280, 241, 282,
        270, 271, 425, 438, 434, 424,
        129, 130, 131, 138, 240, 194, 190, 186, 180,
        198, 279, 447, 217, 218, 116, 272, 262,
        140, 118, 119, 122, 274, 30,
        440, 448, 238, 239,
    ),
}  # fmt: skip


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def confine() -> None:
    """Filter the calls of this process from now on.

    Raises:
        OSError: the kernel refuses, or the architecture's numbers are not known here.
    """
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        raise OSError(f"no filter of system calls for {machine}")
    steps = _steps(machine)
    wanted = _Program(length=len(steps) // _STEP, steps=steps)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(
        _SET_SECCOMP, _MODE_FILTER, ctypes.byref(wanted), 0, 0
    ):
        number = ctypes.get_errno()
        raise OSError(number, f"system calls cannot be filtered: {os.strerror(number)}")


def _steps(machine: str) -> bytes:
    refuse = _statement(_RETURN, _ERROR | _EPERM)
    allow = _statement(_RETURN, _ALLOW)

    def call(number: int, *then: bytes) -> list[bytes]:
        return [_jump(_EQUAL, number, 0, len(then)), *then]

    def without(argument: int, values: tuple[int, ...]) -> list[bytes]:
        each = [step for value in values for step in (_jump(_EQUAL, value, 0, 1), refuse)]
        return [_statement(_LOAD, argument), *each, allow]

    steps = [
        _statement(_LOAD, _ARCHITECTURE),
        _jump(_EQUAL, _ARCHITECTURES[machine], 1, 0),
        _statement(_RETURN, _KILL),
        _statement(_LOAD, _NUMBER),
        _jump(_AT_LEAST, _X32, 0, 1),
        _statement(_RETURN, _KILL),
        # The C library falls back to clone, whose flags can be seen.
        *call(_CLONE3, _statement(_RETURN, _ERROR | _ENOSYS)),
        *[step for number in _REFUSED[machine] for step in call(number, refuse)],
        *call(_FCNTL[machine], *without(_SECOND, _OWNER_BY_FCNTL)),
        *call(_IOCTL[machine], *without(_SECOND, _OWNER_BY_IOCTL)),
        # A process may limit itself (process 0), and no other.
        *call(_PRLIMIT[machine], _statement(_LOAD, _FIRST), _jump(_EQUAL, 0, 1, 0), refuse, allow),
        *call(
            _CLONE[machine],
            _statement(_LOAD, _FIRST),
            _jump(_ANY_BIT, _CLONE_THREAD, 1, 0),
            refuse,
            allow,
        ),
        allow,
    ]
    return b"".join(steps)


def _statement(code: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, 0, 0, value)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def main(words: list[str]) -> None:
    """Whether this machine can do it: raises if not."""
    confine()
