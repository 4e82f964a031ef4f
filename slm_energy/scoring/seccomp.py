"""A filter of system calls for code that a model wrote: no new processes, no way into others.

A program of the kernel's classic BPF, as `bwrap --seccomp` takes it. Threads are allowed, processes
are not: a limit on their number (RLIMIT_NPROC) does not hold for root, and a process that outlives
its parent is one more thing to be sure of. Calls are refused with EPERM, which Python raises as
PermissionError. Source: linux/seccomp.h, linux/filter.h, the kernel's tables of system calls.
"""

from __future__ import annotations

import platform
import struct

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_CLONE_THREAD = 0x10000
_X32 = 0x40000000

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_REFUSED = {
    # fork vfork ptrace unshare setns mount umount2 keyctl bpf perf_event_open userfaultfd
    # process_vm_readv process_vm_writev io_uring_setup pidfd_getfd
    "x86_64": (57, 58, 101, 272, 308, 165, 166, 250, 321, 298, 323, 310, 311, 425, 438),
    "aarch64": (117, 97, 268, 40, 39, 219, 280, 241, 282, 270, 271, 425, 438),
}


def program(machine: str = platform.machine()) -> bytes | None:
    """The filter for an architecture; None where its numbers are not known here."""
    if machine not in _ARCHITECTURES:
        return None
    refuse = _statement(_RETURN, _ERROR | _EPERM)
    steps = [
        _statement(_LOAD, _ARCHITECTURE),
        _jump(_EQUAL, _ARCHITECTURES[machine], 1, 0),
        _statement(_RETURN, _KILL),
        _statement(_LOAD, _NUMBER),
        _jump(_AT_LEAST, _X32, 0, 1),
        _statement(_RETURN, _KILL),
        # The C library falls back to clone, whose flags can be seen.
        _jump(_EQUAL, _CLONE3, 0, 1),
        _statement(_RETURN, _ERROR | _ENOSYS),
        *[step for n in _REFUSED[machine] for step in (_jump(_EQUAL, n, 0, 1), refuse)],
        _jump(_EQUAL, _CLONE[machine], 0, 3),
        _statement(_LOAD, _FIRST_ARGUMENT),
        _jump(_ANY_BIT, _CLONE_THREAD, 1, 0),
        refuse,
        _statement(_RETURN, _ALLOW),
    ]
    return b"".join(steps)


def _statement(code: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, 0, 0, value)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
