"""This machine: its name in the store, and the lock that lets one sweep measure at a time."""

from __future__ import annotations

import hashlib
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_IDENTITY_FILES = ("/etc/machine-id", "/sys/class/dmi/id/product_name")


def machine_id() -> str:
    """Host name and a hash of what tells this machine from others of that name."""
    facts = [platform.node(), platform.machine()]
    for name in _IDENTITY_FILES:
        path = Path(name)
        facts.append(path.read_text(encoding="utf-8").strip() if path.is_file() else "")
    digest = hashlib.sha256("|".join(facts).encode()).hexdigest()
    return f"{platform.node()}-{digest[:6]}"


@contextmanager
def measuring(waiting: Callable[[Path], None]) -> Iterator[None]:
    """Hold the machine-wide lock: two measurements at once would each meter the other.

    Args:
        waiting: called once, with the lock's path, if another sweep holds it.
    """
    path = Path(tempfile.gettempdir()) / "slm_energy.lock"
    lock = FileLock(path, mode=0o666)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting(path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
