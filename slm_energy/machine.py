"""This machine: its name in the store, and the locks that prevent concurrent measurements."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import platform
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from slm_energy.errors import SlmEnergyError

_IDENTITY_FILES = ("/etc/machine-id", "/sys/class/dmi/id/product_name")
_PROCESSORS = Path("/sys/devices/system/cpu")
LOCK_FOLDERS = (_PROCESSORS, Path("/run/lock"), Path("/dev/shm"))
"""Where the machine's locks are: all of these that can be used. None follows TMPDIR, which differs
between users, services, jobs and containers."""


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
    return _cpuinfo("model name") or platform.machine()


def processor_flags() -> frozenset[str]:
    """The processor's features as the kernel names them (`avx2`, `amx_bf16`)."""
    return frozenset(_cpuinfo("flags").split())


def _cpuinfo(key: str) -> str:
    """What the kernel says of the first processor; empty where it does not say."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith(key):
            return line.partition(":")[2].strip()
    return ""


def governor(root: Path = Path("/")) -> str | None:
    """The frequency governors of the processors; None where none can be read."""
    found = set[str]()
    for path in root.glob("sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"):
        with suppress(OSError):
            found.add(path.read_text(encoding="utf-8").strip())
    return ", ".join(sorted(found)) or None


def machine_kind(root: Path = Path("/")) -> str:
    """What machines have in common whose figures may be compared: model, processors, GPUs.

    GPUs are PCI ids of vendor and product: they need no driver and no permission. Memory is left
    out, as the kernel's own share of it differs between equal machines.
    """
    product = root / "sys/class/dmi/id/product_name"
    model = product.read_text(encoding="utf-8").strip() if product.is_file() else ""
    displays = Counter[str]()
    for device in (root / "sys/bus/pci/devices").glob("*"):
        # Display controllers (03) and processing accelerators (12): pci.ids, classes.
        if (device / "class").read_text(encoding="utf-8").startswith(("0x03", "0x12")):
            ids = [(device / name).read_text(encoding="utf-8") for name in ("vendor", "device")]
            displays[":".join(text.strip().removeprefix("0x") for text in ids)] += 1
    processors = f"{processor()} x {os.cpu_count()}"
    parts = [model, processors, *(f"PCI {name} x {n}" for name, n in sorted(displays.items()))]
    return ", ".join(filter(None, parts))


def allowed_processors() -> str:
    """The processors that this process may use, in the kernel's format: `0-3,8`."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return status.partition("Cpus_allowed_list:")[2].split("\n", 1)[0].strip()


def lock_paths(processor: int | None = None) -> list[Path]:
    """What is locked for a measurement, or for one processor of it, in the order of locking.

    The first one is the kernel's own folder of the processors: nobody can create, replace or
    remove it, and all processes of a network namespace see the same one, whatever /tmp, /dev/shm
    and user they have. The others are for processes in different network namespaces. Two processes
    that have any of these in common exclude each other.
    """
    name = "slm_energy" if processor is None else f"slm_energy.cpu{processor}"
    paths = []
    for folder in LOCK_FOLDERS:
        if folder == _PROCESSORS:
            path = folder if processor is None else folder / f"cpu{processor}"
        else:
            path = folder / f"{name}.lock"
        if os.path.lexists(path) or os.access(folder, os.W_OK | os.X_OK):
            paths.append(path)
    return paths


def sees_other_namespaces(root: Path = Path("/")) -> bool:
    """Whether the locks exclude every process of this machine, as far as this process can know.

    They do in the machine's first network namespace. The kernel shows `netdev_max_backlog` there
    alone (`net_core_table` in Linux's net/core/sysctl_net_core.c). Elsewhere, as in a container,
    /run/lock must be mounted from outside.
    """
    if (root / "proc/sys/net/core/netdev_max_backlog").exists():
        return True
    mounts = (root / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return any(mount.split()[4] == "/run/lock" for mount in mounts)


@contextmanager
def measuring(busy: Callable[[Path], None], *, share: bool = False) -> Iterator[None]:
    """Hold the machine-wide lock: concurrent measurements would include each other's energy.

    Args:
        busy: called with the path of a lock that another process holds; this function waits after
            it returns, and gives up if it raises.
        share: allow other sharing measurements on other processors: each locks the processors that
            it may use.

    Raises:
        SlmEnergyError: a lock cannot be opened, or there is no place for one.
    """
    paths = lock_paths()
    if not paths:
        folders = ", ".join(map(str, LOCK_FOLDERS))
        raise SlmEnergyError(f"no place for the machine's lock: none of {folders} can be used")
    with ExitStack() as held:
        for path in paths:
            held.enter_context(locked(path, busy, share=share))
        if share:
            # In ascending order, to avoid deadlocks.
            for number in sorted(os.sched_getaffinity(0)):
                for path in lock_paths(number):
                    held.enter_context(locked(path, busy))
        yield


@contextmanager
def locked(
    path: Path, busy: Callable[[Path], None] = lambda path: None, *, share: bool = False
) -> Iterator[None]:
    """Hold a lock; the kernel releases it when the process ends, even if killed.

    Args:
        path: its file, created if missing, or a folder.
        busy: called once if another process holds the lock; see `measuring`.
        share: hold it together with other sharing processes.

    Raises:
        SlmEnergyError: it cannot be opened, or is a link or of another type.
        OSError: it does not exist, and its folder cannot be written.
    """
    kind = fcntl.LOCK_SH if share else fcntl.LOCK_EX
    if not os.path.lexists(path):
        _create(path)
    try:
        lock = _open(path)
    except OSError as error:
        raise SlmEnergyError(
            f"the lock {path} cannot be opened ({error.strerror or error}):"
            " remove it if no sweep runs, or have its owner do so"
        ) from error
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
    """Open a lock of any user, which exists.

    Kernels refuse to open another user's file in a world-writable folder for creation
    (fs.protected_regular). A lock needs only read access, except on NFS, whose exclusive locks need
    write access (flock(2)). No link is followed, and a FIFO does not block.
    """
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        lock = os.open(path, flags | os.O_RDWR)
    except OSError:  # a folder, another user's, or on a read-only file system
        lock = os.open(path, flags | os.O_RDONLY)
    mode = os.fstat(lock).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        os.close(lock)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return lock


def _create(path: Path) -> None:
    """Create a lock that every user can open, in one step: the umask would close it to others.

    Raises:
        OSError: its folder cannot be written.
    """
    try:
        new, name = tempfile.mkstemp(dir=path.parent, prefix=".slm_energy.")
    except OSError as error:  # with the lock's own name
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        os.fchmod(new, 0o666)
        os.link(name, path)
    except FileExistsError:  # another process was faster
        pass
    except PermissionError:  # a file system without hard links, which has no modes either
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    finally:
        os.unlink(name)
        os.close(new)
