"""Every file of conf/model/ says what its model really is."""

import re
from typing import Any

import pytest

from slm_energy.config.check import run_config
from slm_energy.config.compose import compose
from slm_energy.errors import ConfigError
from slm_energy.models import source
from tests.shipped import MODELS, shipped

PARAMETERS = {
    "bloomz-1b1": 1_065_314_304,
    "bloomz-560m": 559_214_592,
    "codegemma-2b": 2_506_172_416,
    "codegen-350m": 356_712_448,
    "codeparrot-small": 111_008_256,
    "deepseek-coder-1.3b": 1_346_471_936,
    "gemma-3-1b": 999_885_952,
    "granite-3-2b": 2_533_531_648,
    "granite-4.0-h-micro": 3_191_396_096,
    "granite-4.0-micro": 3_402_836_480,
    "lfm2-1.2b": 1_170_340_608,
    "phi-2": 2_779_683_840,
    "phi-4-mini": 3_836_021_760,
    "pythia-1.4b": 1_414_647_808,
    "pythia-410m": 405_334_016,
    "qwen2.5-coder-0.5b": 494_032_768,
    "qwen2.5-coder-0.5b-instruct": 494_032_768,
    "qwen2.5-coder-1.5b": 1_543_714_304,
    "qwen2.5-coder-1.5b-instruct": 1_543_714_304,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "smollm3-3b": 3_075_098_624,
    # The hub counts 3,306,181,952: their files hold 32 causal masks of 4096 by 4096 as well.
    "stablecode-completion-alpha-3b-4k": 2_769_310_720,
    "stablecode-instruct-alpha-3b": 2_769_310_720,
    "starcoder2-3b": 3_030_371_328,
    "starcoderbase-1b": 1_137_207_296,
    "tiny_starcoder_py": 164_144_128,
    "tinyllama-1.1b": 1_100_048_384,
}
"""As published; tied parameters count once."""


@pytest.fixture(scope="module", params=MODELS)
def composed(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return request.param, compose("config", [f"model={request.param}"])


def test_every_model_has_a_published_number_of_parameters():
    assert set(PARAMETERS) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_an_architecture_has_as_many_parameters_as_the_published_model(name):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    values = dict(shipped(name).architecture)
    classes = values.pop("architectures")
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(values.pop("model_type"), **values)
        )
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]
    assert classes == [type(network).__name__]


def test_a_file_has_the_name_of_its_model_and_can_be_rehearsed(composed):
    name, values = composed
    values = values | {"model": values["model"] | {"weights": "random"}}
    model = run_config(values).model
    assert model.name == name
    assert model.architecture == shipped(name).architecture
    assert not model.trust_remote_code
    assert not model.allow_pickle


def test_a_file_pins_a_commit_or_says_where_to_find_one(composed):
    model = run_config(composed[1]).model
    revision = model.revision
    if revision is not None:
        assert re.fullmatch("[0-9a-f]{40}", revision)
        assert source.identity(model) == revision
        return
    with pytest.raises(ConfigError) as caught:
        source.identity(model)
    assert f"https://huggingface.co/{model.source}/commits/main" in str(caught.value)
    assert "model.revision=COMMIT" in str(caught.value)
    assert "\n" not in str(caught.value)
