"""Parameters of a model, counted from its architecture."""

from typing import Any

import pytest

from slm_energy.planning.size import size_of
from tests.models.test_model_files import PARAMETERS
from tests.shipped import shipped


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_counted_within_a_percent_of_the_published_number(name: str) -> None:
    size = size_of(shipped(name).architecture)
    assert size is not None
    assert size.parameters == pytest.approx(PARAMETERS[name], rel=0.01)


@pytest.mark.parametrize(
    "changes",
    [{"model_type": "mamba"}, {"hidden_size": None}, {"num_hidden_layers": "22"}],
    ids=["family", "width", "type"],
)
def test_what_is_not_known_of_an_architecture_is_not_made_up(changes: dict[str, Any]) -> None:
    assert size_of(shipped("tinyllama-1.1b").architecture | changes) is None


def test_onnx_runtime_peaks_at_the_output_layer_unless_more_is_packed_after_it() -> None:
    starcoder, codeparrot = (
        size_of(shipped(name).architecture) for name in ("tiny_starcoder_py", "codeparrot-small")
    )
    assert starcoder is not None
    assert codeparrot is not None
    assert starcoder.after_output == 20 * 768 * 3072
    assert codeparrot.after_output == 0
