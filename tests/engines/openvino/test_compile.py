import pytest

from slm_energy.engines.openvino import device, export
from slm_energy.engines.openvino.compile import compile_graph
from slm_energy.engines.openvino.engine import ENGINE
from slm_energy.errors import EngineError


def test_a_setting_that_is_not_in_force_is_an_error(make_request):
    target = make_request("openvino")
    ENGINE.prepare(target)
    graph = export.cache_folder(target) / export.GRAPH
    requested = device.properties("float32", 1)
    compiled, in_force, cut = compile_graph(graph, "CPU", requested, last_position_only=True)
    assert cut
    assert in_force == {name.lower(): value for name, value in requested.items()}
    with pytest.raises(EngineError, match="KV_CACHE_PRECISION was set to u8, but is f32"):
        device.in_force(compiled, {"KV_CACHE_PRECISION": "u8"})
