import dataclasses
import importlib.util
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from slm_energy.config.groups import ProviderConfig
from slm_energy.devices import cuda
from slm_energy.distributions import BUILDS
from slm_energy.engines import decode
from slm_energy.engines.base import Batch, find
from slm_energy.engines.torch.eager import (
    ENGINE,
    attention_deviation,
    device_identity,
    has_cuda_build,
    unsupported,
)
from slm_energy.engines.torch.weights import load_weights
from slm_energy.errors import EngineError
from tests.engines.conftest import loaded
from tests.engines.torch.conftest import PROMPT, PROMPTS, gpt2_twin, llama_twin


def by_hand(folder: Path, new_tokens: int) -> tuple[int, ...]:
    """Greedy ids from eager attention, without a cache: slow, but simple enough to trust."""
    model = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager").eval()
    ids = torch.tensor([PROMPT])
    with torch.inference_mode():
        for _ in range(new_tokens):
            ids = torch.cat([ids, model(ids).logits[:, -1].argmax(-1)[:, None]], dim=-1)
    return tuple(ids[0, len(PROMPT) :].tolist())


@pytest.mark.parametrize("decode_by", ["session", "generate"])
def test_effective_settings_are_read_back(make_request, decode_by):
    _, effective = loaded(
        make_request("torch", decode=decode_by, dtype="bfloat16", attention="eager")
    )
    expected = {
        "provider": "cpu",
        "device": "cpu",
        "dtype": "bfloat16",
        "threads": 1,
        "kv_cache": True,
        "cache": "DynamicCache",
        "attention": "eager",
        "context": 512,
        "decode": decode_by,
    }
    assert expected.items() <= effective.items()


def test_int8_without_torchao_names_the_extra(make_request, monkeypatch):
    settings = make_request("torch", dtype="int8").settings
    assert unsupported(settings) is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert unsupported(settings) == (
        "engine.dtype=int8 needs torchao: pip install 'slm-energy[int8]'"
    )


@pytest.mark.parametrize("engine", ["torch", "torch_compile", "torchscript"])
@pytest.mark.parametrize("absent", ["torch", "transformers"])
def test_without_its_libraries_the_engine_names_the_extra(
    make_request, monkeypatch, engine, absent
):
    settings = make_request(engine).settings
    installed = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == absent else installed(name)
    )
    assert find(engine).unsupported(settings) == (
        f"engine {engine} needs {absent}: pip install 'slm-energy[torch]'"
    )


def test_sdpa_attention_is_compared_with_eager_attention(make_request):
    _, effective = loaded(make_request("torch"))
    assert effective["attention"] == "sdpa"
    assert 0 < effective["attention_deviation"] < 1e-3


@pytest.mark.parametrize("switch", ["scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"])
def test_gpt2_gets_eager_attention_where_its_sdpa_is_wrong(make_request, tmp_path, switch):
    folder = gpt2_twin(tmp_path, **{switch: True})
    engine, effective = loaded(make_request("torch", folder=folder))
    answers = engine.generate(Batch(prompts=(PROMPT,), new_tokens=12, stop="fixed"))
    assert effective["attention"] == "eager"
    assert answers[0].output_ids == by_hand(folder, 12)


def test_an_ordinary_gpt2_keeps_sdpa(make_request, tmp_path):
    folder = gpt2_twin(tmp_path)
    engine, effective = loaded(make_request("torch", folder=folder))
    answers = engine.generate(Batch(prompts=(PROMPT,), new_tokens=12, stop="fixed"))
    assert effective["attention"] == "sdpa"
    assert answers[0].output_ids == by_hand(folder, 12)


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


@pytest.mark.parametrize("decode_by", ["session", "generate"])
def test_nan_logits_are_an_error(make_request, tmp_path, decode_by):
    folder = llama_twin(tmp_path, fill=float("nan"))
    engine, _ = loaded(make_request("torch", folder=folder, decode=decode_by, attention="eager"))
    with pytest.raises(EngineError, match="NaN logits at token 0 of request 0"):
        engine.generate(Batch(prompts=(PROMPT, PROMPT[:2]), new_tokens=2, stop="fixed"))


def test_nan_logits_are_found_when_sdpa_is_compared(make_request, tmp_path):
    with pytest.raises(EngineError, match="NaN logits"):
        loaded(make_request("torch", folder=llama_twin(tmp_path, fill=float("nan"))))


def test_the_models_own_sampling_defaults_change_nothing(make_request, tmp_path):
    folder = llama_twin(tmp_path)
    batch = Batch(prompts=(PROMPT, PROMPT[:2]), new_tokens=10, stop="fixed")
    plain = loaded(make_request("torch", folder=folder))[0].generate(batch)
    (folder / "generation_config.json").write_text(
        '{"do_sample": true, "temperature": 3.0, "repetition_penalty": 1.5, "eos_token_id": 0}'
    )
    tuned = loaded(make_request("torch", folder=folder, decode="generate"))[0].generate(batch)
    assert [a.output_ids for a in tuned] == [a.output_ids for a in plain]


def test_an_unknown_provider_is_unsupported(make_request):
    settings = make_request("torch").settings
    other = dataclasses.replace(settings, provider=ProviderConfig(name="tensorrt"))
    assert unsupported(settings) is None
    assert unsupported(other) == "engine torch has no provider tensorrt: use cpu or cuda"


def test_a_cpu_only_torch_is_detected_without_importing_it(make_request):
    settings = dataclasses.replace(
        make_request("torch").settings, provider=ProviderConfig(name="cuda", device=1000)
    )
    assert has_cuda_build() == (torch.version.cuda is not None)
    assert unsupported(settings) is not None


def test_versions_name_the_computing_packages():
    assert set(ENGINE.versions()) == {"torch", "transformers", "torchao", BUILDS}
    assert "absent" not in ENGINE.versions().values()


def test_probe_of_the_bundled_vocabulary_is_padded():
    lengths = {len(prompt) for prompt in decode.probe(4096).prompts}
    assert np.ptp(list(lengths)) > 0


class FakeUuid:
    """As torch._C._CUuuid: its text is the number alone."""

    def __str__(self) -> str:
        return "bbbbbbbb-0000-0000-0000-000000000002"


def test_the_gpu_in_use_is_named_as_nvml_names_it(monkeypatch):
    """On a stand-in for torch's CUDA: this torch may be built without it."""

    def properties(device):
        return types.SimpleNamespace(name="Fake", **({"uuid": FakeUuid()} if device.index else {}))

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    named_by_driver = {"device_uuid": "GPU-by the driver"}
    monkeypatch.setattr(cuda, "identity", lambda index: named_by_driver if index == 0 else {})
    assert device_identity(torch.device("cuda:1")) == {
        "device_uuid": "GPU-bbbbbbbb-0000-0000-0000-000000000002"
    }
    assert device_identity(torch.device("cuda:0")) == named_by_driver  # an older torch
    assert device_identity(torch.device("cpu")) == {}


@pytest.mark.parametrize("name", ["lfm2-1.2b", "granite-4.0-h-micro"])
def test_a_model_that_keeps_states_beside_keys_makes_its_own_cache(make_request, twin, name):
    ours, effective = loaded(make_request("torch", folder=twin(name)))
    theirs, _ = loaded(make_request("torch", folder=twin(name), decode="generate"))
    batch = Batch(prompts=(PROMPT,), new_tokens=12, stop="fixed")
    assert effective["kv_cache"] is True
    assert effective["cache"] != "DynamicCache"
    assert ours.generate(batch)[0].output_ids == theirs.generate(batch)[0].output_ids


def batched(target, size=2):
    workload = dataclasses.replace(target.settings.workload, batch_size=size)
    settings = dataclasses.replace(target.settings, workload=workload)
    return dataclasses.replace(target, settings=settings)


def test_such_a_model_serves_padded_batches_as_one_prompt_at_a_time(make_request, twin):
    engine, _ = loaded(batched(make_request("torch", folder=twin("granite-4.0-h-micro"))))
    both = Batch(prompts=PROMPTS, new_tokens=12, stop="fixed")
    alone = [engine.generate(both.request(row))[0].output_ids for row in range(2)]
    assert [answer.output_ids for answer in engine.generate(both)] == alone


def test_a_library_that_lets_padding_change_the_answer_is_refused(make_request, twin):
    with pytest.raises(EngineError, match=r"set workload\.batch_size=1, or engine\.python"):
        loaded(batched(make_request("torch", folder=twin("lfm2-1.2b"))))
