import pytest

from slm_energy.engines.torch.probe import attention_deviation
from slm_energy.engines.torch.weights import load_weights
from slm_energy.errors import EngineError
from tests.engines.conftest import loaded
from tests.engines.torch.conftest import batched, gpt2_twin, llama_twin


def test_sdpa_attention_is_compared_with_eager_attention(make_request):
    _, effective = loaded(make_request("torch"))
    assert effective["attention"] == "sdpa"
    assert 0 < effective["attention_deviation"] < 1e-3


def test_requesting_a_wrong_sdpa_is_refused(make_request, tmp_path):
    folder = gpt2_twin(tmp_path, scale_attn_by_inverse_layer_idx=True)
    with pytest.raises(EngineError, match=r"set model\.attention=eager"):
        loaded(make_request("torch", folder=folder, attention="sdpa"))


def test_the_comparison_finds_a_wrong_sdpa_by_its_logits(make_request, tmp_path):
    folder = gpt2_twin(tmp_path, scale_attn_by_inverse_layer_idx=True)
    model = load_weights(
        make_request("torch", folder=folder, attention="sdpa").settings.model,
        folder,
        "float32",
    )
    model.config.model_type = "unknown"  # so that no rule by name applies
    with pytest.raises(EngineError, match="differs from eager attention by"):
        attention_deviation(model)


def test_nan_logits_are_found_when_sdpa_is_compared(make_request, tmp_path):
    with pytest.raises(EngineError, match="NaN logits"):
        loaded(make_request("torch", folder=llama_twin(tmp_path, fill=float("nan"))))


def test_a_library_that_lets_padding_change_the_answer_is_refused(make_request, twin):
    with pytest.raises(EngineError, match=r"set workload\.batch_size=1, or engine\.python"):
        loaded(batched(make_request("torch", folder=twin("lfm2-1.2b"))))
