"""Memory of weights that the runtime maps and copies."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator
from pathlib import Path

_RELEASE_PERIOD_S = 0.05
_MADV_DONTNEED = 4


@contextlib.contextmanager
def releasing(weights: Path) -> Iterator[None]:
    """Return the memory of weights to the kernel as soon as they are copied.

    The runtime maps the weights' file and copies it into its own layout: without this, both are
    resident at the same time. The mapping is read-only and shared, so a page that is needed again
    is read from the file.

    Raises:
        OSError: the kernel call failed.
    """
    done = threading.Event()
    mapped = weights.resolve()  # as the kernel lists it
    errors: list[OSError] = []

    def release() -> None:
        try:
            while not done.wait(_RELEASE_PERIOD_S):
                _release(mapped)
            _release(mapped)
        except OSError as error:
            errors.append(error)

    worker = threading.Thread(target=release, daemon=True)
    worker.start()
    try:
        yield
    finally:
        done.set()
        worker.join()
    if errors:
        raise errors[0]


def _release(weights: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        span, access, _, _, _, *path = line.split(maxsplit=5)
        if path != [str(weights)] or access != "r--s":
            continue
        start, end = (int(address, 16) for address in span.split("-"))
        size = ctypes.c_size_t(end - start)
        if libc.madvise(ctypes.c_void_p(start), size, _MADV_DONTNEED) != 0:
            raise OSError(ctypes.get_errno(), f"madvise failed for {weights}")
