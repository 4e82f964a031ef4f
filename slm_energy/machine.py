"""This machine: its name in the store, and the locks that prevent concurrent measurements."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_IDENTITY_FILES = ("/etc/machine-id", "/sys/class/dmi/id/product_name")


def machine_id() -> str:
    """Host name and a hash that distinguishes machines of the same name."""
    facts = [platform.node(), platform.machine()]
    for name in _IDENTITY_FILES:
        path = Path(name)
        facts.append(path.read_text(encoding="utf-8").strip() if path.is_file() else "")
    digest = hashlib.sha256("|".join(facts).encode()).hexdigest()
    return f"{platform.node()}-{digest[:6]}"


def processor() -> str:
    """The processor's name as reported by the kernel."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def allowed_processors() -> str:
    """The processors that this process may use, in the kernel's format: `0-3,8`."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return status.partition("Cpus_allowed_list:")[2].split("\n", 1)[0].strip()


@contextmanager
def measuring(busy: Callable[[Path], None], *, share: bool = False) -> Iterator[None]:
    """Hold the machine-wide lock: concurrent measurements would include each other's energy.

    Args:
        busy: called with the path of a lock that another process holds; this function waits after
            it returns, and gives up if it raises.
        share: allow other sharing measurements on other processors: each locks the processors that
            it may use.

    Raises:
        OSError: a lock cannot be opened.
    """
    folder = Path(tempfile.gettempdir())
    with ExitStack() as held:
        held.enter_context(locked(folder / "slm_energy.lock", busy, share=share))
        if share:
            # In ascending order, to avoid deadlocks.
            for number in sorted(os.sched_getaffinity(0)):
                held.enter_context(locked(folder / f"slm_energy.cpu{number}.lock", busy))
        yield


@contextmanager
def locked(path: Path, busy: Callable[[Path], None], *, share: bool = False) -> Iterator[None]:
    """Hold a lock; the kernel releases it when the process ends, even if killed.

    Args:
        path: its file; created if missing.
        busy: called once if another process holds the lock; see `measuring`.
        share: hold it together with other sharing processes.

    Raises:
        OSError: it cannot be opened.
    """
    kind = fcntl.LOCK_SH if share else fcntl.LOCK_EX
    lock = _open(path)
    try:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            busy(path)
            fcntl.flock(lock, kind)
        yield
    finally:
        os.close(lock)


def _open(path: Path) -> int:
    """Open a lock file of any user; create it only if it is missing.

    Kernels refuse to open another user's file in a world-writable folder for creation
    (fs.protected_regular), although a lock needs only read access.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
