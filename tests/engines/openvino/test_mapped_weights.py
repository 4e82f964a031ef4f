import mmap
import os

import pytest

from slm_energy.engines.openvino import mapped_weights


def test_memory_of_copied_weights_is_returned(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(os.urandom(1 << 22))
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    assert sum(mapped[::4096]) > 0
    assert resident_kb(path) >= 1 << 12
    (tmp_path / "link.bin").symlink_to(path)  # the kernel lists the file itself
    with mapped_weights.releasing(tmp_path / "link.bin"):
        pass
    assert resident_kb(path) == 0
    assert mapped[:] == path.read_bytes()
    mapped.close()


def test_memory_that_the_kernel_keeps_is_an_error(tmp_path, monkeypatch):
    def refuse(weights):
        raise OSError(f"madvise failed for {weights}")

    monkeypatch.setattr(mapped_weights, "_release", refuse)
    with (
        pytest.raises(OSError, match=r"madvise failed for .*weights\.bin"),
        mapped_weights.releasing(tmp_path / "weights.bin"),
    ):
        pass


def resident_kb(path) -> int:
    with open("/proc/self/smaps") as file:
        lines = file.read().splitlines()
    start = next(n for n, line in enumerate(lines) if line.endswith(str(path)))
    return int(next(line for line in lines[start:] if line.startswith("Rss:")).split()[1])
