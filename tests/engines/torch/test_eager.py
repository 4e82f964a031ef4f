import dataclasses
import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import GPT2LMHeadModel

from slm_energy.config.groups import ProviderConfig
from slm_energy.distributions import BUILDS
from slm_energy.engines.base import Batch, find
from slm_energy.engines.torch.eager import ENGINE, unsupported
from slm_energy.errors import EngineError
from tests.engines.conftest import loaded
from tests.engines.torch.conftest import PROMPT, gpt2_twin, llama_twin


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


def test_groups_are_an_option_of_int4_only(make_request):
    options = {"group_size": 64}
    assert unsupported(make_request("torch", dtype="int4", options=options).settings) is None
    assert unsupported(make_request("torch", dtype="int8", options=options).settings) == (
        "engine.options.group_size=64 with engine.dtype=int8: it needs int4"
    )


@pytest.mark.parametrize("engine", ["torch_compile", "torchscript"])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"decode": "generate"}, "use engine.decode=session"),
        ({"dtype": "int8"}, "use float32, bfloat16 or float16"),
    ],
)
def test_unsupported_settings_name_the_remedy(make_request, engine, changes, reason):
    assert reason in str(find(engine).refusal(make_request(engine, **changes).settings))


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


@pytest.mark.parametrize("decode_by", ["session", "generate"])
def test_nan_logits_are_an_error(make_request, tmp_path, decode_by):
    folder = llama_twin(tmp_path, fill=float("nan"))
    engine, _ = loaded(make_request("torch", folder=folder, decode=decode_by, attention="eager"))
    with pytest.raises(EngineError, match="NaN logits at token 0 of request 0"):
        engine.generate(Batch(prompts=(PROMPT, PROMPT[:2]), new_tokens=2, stop="fixed"))


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


def test_versions_name_the_computing_packages():
    assert set(ENGINE.versions()) == {"torch", "transformers", "torchao", BUILDS}
    assert "absent" not in ENGINE.versions().values()
