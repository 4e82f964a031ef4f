"""One powercap counter in a folder, whose file says at each tick of a script what it is told to.

Needs only the standard library: peers live in an environment of their own.
"""

from __future__ import annotations

import os
from pathlib import Path

RANGE_UJ = 262_143_328_850
TICKS = 10
TICK_S = 1.0
POWER_W = 100
TRUE_J = TICKS * TICK_S * POWER_W

# Real files on which reading fails, for root too: the kernel asks for the mode of its settings from
# everybody, and nothing is mapped at the start of a process's memory.
_LINKS = {"EACCES": "/proc/sys/vm/drop_caches", "EIO": "/proc/self/mem"}
UNREADABLE = (*_LINKS, "ENOENT")
"""Words of a script that are no text of the file, but keep it from being opened."""


class Counter:
    """The zone `intel-rapl:NUMBER` of a tree.

    Args:
        root: the tree's folder, the machine's /sys/class/powercap.
        number: which package.
    """

    def __init__(self, root: Path, number: int = 0) -> None:
        name = f"intel-rapl:{number}"
        self.folder = root / "intel-rapl" / name
        self.folder.mkdir(parents=True)
        (root / name).symlink_to(self.folder)
        (self.folder / "name").write_text(f"package-{number}\n")
        (self.folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
        self.show("0\n")

    def show(self, word: str) -> None:
        """Let the file hold this text, or make it unreadable."""
        file = self.folder / "energy_uj"
        if file.is_symlink():
            file.unlink()
        if word in UNREADABLE:
            file.unlink(missing_ok=True)
            if word in _LINKS:
                file.symlink_to(_LINKS[word])
            return
        # In place, as the kernel's: who keeps it open sees the new text.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, word.encode(), 0)
        os.close(descriptor)
