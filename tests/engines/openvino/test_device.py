import os
import subprocess
import sys

import pytest

from slm_energy.engines.openvino.device import device_type, library


class OneGpu:
    """OpenVINO's Core on a machine with a GPU of this type."""

    def __init__(self, kind):
        self.kind = kind

    def get_property(self, device, name):
        assert (device, name) == ("GPU.0", "DEVICE_TYPE")
        return self.kind


@pytest.mark.parametrize("name", ["INTEGRATED", "DISCRETE"])
def test_whether_a_gpu_is_a_part_of_the_processor_is_read_back(monkeypatch, name):
    kind = getattr(library().properties.device.Type, name)
    monkeypatch.setattr(library(), "Core", lambda: OneGpu(kind))
    assert device_type("openvino_gpu", 0) == name.lower()


def test_a_device_says_whether_it_is_part_of_the_processor():
    assert device_type("cpu", 0) == "integrated"


def test_telemetry_leaves_no_trace(tmp_path):
    script = (
        "from slm_energy.engines.openvino import device; device.library();"
        "from openvino.tools.ovc import telemetry_utils; telemetry_utils.init_ovc_telemetry()"
    )
    variables = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], env=variables, check=True)
    assert list(tmp_path.iterdir()) == []
