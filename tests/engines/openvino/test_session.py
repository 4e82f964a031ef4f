"""What is read back from a compiled graph, and memory that is given back."""

import mmap
import os

import pytest

from slm_energy.engines.openvino import export
from slm_energy.engines.openvino import session as ov
from slm_energy.engines.openvino.engine import ENGINE
from slm_energy.errors import EngineError


class OneGpu:
    """OpenVINO's Core on a machine with a GPU of this type."""

    def __init__(self, kind):
        self.kind = kind

    def get_property(self, device, name):
        assert (device, name) == ("GPU.0", "DEVICE_TYPE")
        return self.kind


@pytest.mark.parametrize("name", ["INTEGRATED", "DISCRETE"])
def test_whether_a_gpu_is_a_part_of_the_processor_is_read_back(monkeypatch, name):
    kind = getattr(ov.library().properties.device.Type, name)
    monkeypatch.setattr(ov.library(), "Core", lambda: OneGpu(kind))
    assert ov.device_type("openvino_gpu", 0) == name.lower()


def test_memory_of_copied_weights_is_returned(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(os.urandom(1 << 22))
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    assert sum(mapped[::4096]) > 0
    assert resident_kb(path) >= 1 << 12
    (tmp_path / "link.bin").symlink_to(path)  # the kernel lists the file itself
    with ov.releasing(tmp_path / "link.bin"):
        pass
    assert resident_kb(path) == 0
    assert mapped[:] == path.read_bytes()
    mapped.close()


def test_memory_that_the_kernel_keeps_is_an_error(tmp_path, monkeypatch):
    def refuse(weights):
        raise OSError(f"madvise failed for {weights}")

    monkeypatch.setattr(ov, "_release", refuse)
    with (
        pytest.raises(OSError, match=r"madvise failed for .*weights\.bin"),
        ov.releasing(tmp_path / "weights.bin"),
    ):
        pass


def resident_kb(path) -> int:
    with open("/proc/self/smaps") as file:
        lines = file.read().splitlines()
    start = next(n for n, line in enumerate(lines) if line.endswith(str(path)))
    return int(next(line for line in lines[start:] if line.startswith("Rss:")).split()[1])


def test_a_setting_that_is_not_in_force_is_an_error(make_request):
    target = make_request("openvino")
    if ENGINE.needs_preparation(target):
        ENGINE.prepare(target)
    graph = export.cache_folder(target) / export.GRAPH
    requested = ov.properties("float32", 1)
    compiled, in_force, cut = ov.compile_graph(graph, "CPU", requested, last_position_only=True)
    assert cut
    assert in_force == {name.lower(): value for name, value in requested.items()}
    with pytest.raises(EngineError, match="KV_CACHE_PRECISION was set to u8, but is f32"):
        ov.in_force(compiled, {"KV_CACHE_PRECISION": "u8"})
