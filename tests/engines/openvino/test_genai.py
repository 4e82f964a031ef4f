"""OpenVINO GenAI over the export of engine openvino: the same tokens, with a stamp for each."""

import dataclasses
from itertools import pairwise

import pytest

from slm_energy.cell import Settings
from slm_energy.config.groups import ProviderConfig
from slm_energy.engines.base import Batch
from slm_energy.engines.openvino.genai import ENGINE
from slm_energy.errors import EngineError
from tests.engines.conftest import loaded
from tests.shipped import FEW

PROMPTS = (tuple(range(5, 14)), tuple(range(40, 24, -1)), (100, 7, 300, 12))


@pytest.mark.parametrize("name", FEW)
def test_an_architecture_gets_the_tokens_of_torch_alone_and_together(make_request, twin, name):
    engine, _ = loaded(make_request("torch", twin(name)))
    batch = Batch(prompts=PROMPTS, new_tokens=16, stop="fixed")
    expected = [engine.generate(batch.request(row))[0].output_ids for row in range(3)]
    for attention in ("paged", "sdpa"):
        options = {"attention": attention}
        target = make_request("openvino_genai", twin(name), decode="generate", options=options)
        engine, effective = loaded(target)
        assert effective["attention_backend"] == attention
        answers = [engine.generate(batch.request(row))[0] for row in range(3)]
        assert [answer.output_ids for answer in answers] == expected
        for answer in answers:
            assert len(answer.token_ns) == 16
            assert all(before < after for before, after in pairwise(answer.token_ns))
        if attention == "paged":
            assert [answer.output_ids for answer in engine.generate(batch)] == expected
        engine.close()


def test_a_model_that_blocks_would_change_is_refused_with_paged_attention(make_request, twin):
    folder = twin("granite-4.0-micro")
    with pytest.raises(EngineError, match=r"^engine.options.attention=paged: .* use sdpa$"):
        loaded(make_request("openvino_genai", folder, decode="generate"))
    options = {"attention": "sdpa"}
    loaded(make_request("openvino_genai", folder, decode="generate", options=options))


def test_it_serves_what_engine_openvino_exports_and_says_what_it_was_asked_for(make_request):
    _, plain = loaded(make_request("openvino"))
    target = make_request("openvino_genai", decode="generate")
    assert not ENGINE.needs_preparation(target)
    assert {"openvino-genai", "openvino-genai/builds"} <= target.versions.keys()
    _, effective = loaded(target)
    assert effective["weights"] == plain["weights"]
    assert effective["told_by_runtime"] == []
    assert effective["kv_cache_precision"] == effective["inference_precision_hint"] == "f32"


def test_int4_gets_the_tokens_of_the_same_graph_in_our_session(make_request, prompts):
    batch = Batch(prompts=prompts, new_tokens=12, stop="fixed")
    ours, _ = loaded(make_request("openvino", dtype="int4"))
    theirs, effective = loaded(make_request("openvino_genai", decode="generate", dtype="int4"))
    assert effective["weights"]["group_size"] == 32
    expected = [answer.output_ids for answer in ours.generate(batch)]
    assert [answer.output_ids for answer in theirs.generate(batch)] == expected


def test_a_request_that_ends_early_leaves_no_trace_in_the_next(make_request, prompts):
    target = make_request("openvino_genai", decode="generate")
    engine, _ = loaded(target)
    fixed = Batch(prompts=prompts, new_tokens=12, stop="fixed")
    expected = [answer.output_ids for answer in engine.generate(fixed)]
    ended, _ = loaded(dataclasses.replace(target, eos_ids=(expected[0][3],)))
    short = ended.generate(dataclasses.replace(fixed, stop="eos"))
    assert len(short[0].output_ids) <= 4
    assert [answer.output_ids for answer in ended.generate(fixed)] == expected


def test_what_it_cannot_do_is_said_before_anything_is_loaded(make_request):
    def reason(**changes) -> str:
        settings = make_request("openvino_genai", **{"decode": "generate"} | changes).settings
        return str(ENGINE.unsupported(settings))

    def in_batches(settings: Settings, rows: int) -> Settings:
        workload = dataclasses.replace(settings.workload, batch_size=rows)
        return dataclasses.replace(settings, workload=workload)

    assert reason() == "None"
    assert "set engine.decode=generate" in reason(decode="session")
    assert "group_size=64 with engine.dtype=int8" in reason(
        dtype="int8", options={"group_size": 64}
    )
    sdpa = make_request("openvino_genai", decode="generate", options={"attention": "sdpa"}).settings
    assert ENGINE.unsupported(in_batches(sdpa, 1)) is None
    assert "workload.batch_size=4: it tells the tokens of one" in str(
        ENGINE.unsupported(in_batches(sdpa, 4))
    )
    gpu = dataclasses.replace(sdpa, provider=ProviderConfig(name="openvino_gpu"))
    assert "no provider openvino_gpu: use cpu" in str(ENGINE.unsupported(gpu))


def test_loading_before_the_export_says_what_to_do(make_request, tmp_path):
    target = make_request("openvino_genai", decode="generate")
    with pytest.raises(EngineError, match="run the prepare step first"):
        ENGINE.create().load(dataclasses.replace(target, cache_path=tmp_path))
