"""This machine: its name in the store, and the lock that lets one sweep measure at a time."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_IDENTITY_FILES = ("/etc/machine-id", "/sys/class/dmi/id/product_name")


def machine_id() -> str:
    """Host name and a hash of what tells this machine from others of that name."""
    facts = [platform.node(), platform.machine()]
    for name in _IDENTITY_FILES:
        path = Path(name)
        facts.append(path.read_text(encoding="utf-8").strip() if path.is_file() else "")
    digest = hashlib.sha256("|".join(facts).encode()).hexdigest()
    return f"{platform.node()}-{digest[:6]}"


def processor() -> str:
    """The processor's name as the kernel tells it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


@contextmanager
def measuring(busy: Callable[[Path], None]) -> Iterator[None]:
    """Hold the machine-wide lock: two measurements at once would each meter the other.

    The kernel frees it when the process that holds it ends, however that happens.

    Args:
        busy: called once, with the lock's path, if another sweep holds it; when it returns, this
            waits. It raises to refuse.

    Raises:
        OSError: the lock cannot be opened.
    """
    path = Path(tempfile.gettempdir()) / "slm_energy.lock"
    lock = _open(path)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy(path)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _open(path: Path) -> int:
    """Open a lock file that any user may have made; only then try to make it.

    Kernels refuse to open another user's file in a world-writable folder for creation
    (fs.protected_regular), although a lock needs no more than reading.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
