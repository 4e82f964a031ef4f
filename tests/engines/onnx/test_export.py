import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import CTRLConfig, CTRLLMHeadModel, GPT2Config, GPT2LMHeadModel

from slm_energy.engines import decode
from slm_energy.engines.base import Batch, Job
from slm_energy.engines.onnx import export
from slm_energy.engines.onnx.engine import ENGINE
from slm_energy.errors import EngineError

SMALL = {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 0}


@pytest.fixture
def job(make_job, tmp_path) -> Job:
    """An export of a tiny GPT-2, whose SDPA attention is wrong, into an empty cache."""
    torch.manual_seed(1)
    config = GPT2Config(
        n_layer=3,
        n_head=2,
        n_embd=16,
        n_positions=64,
        initializer_range=0.6,
        scale_attn_by_inverse_layer_idx=True,
        **SMALL,
    )
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    return dataclasses.replace(
        make_job("onnx", folder=tmp_path / "model"), cache_path=tmp_path / "cache"
    )


def entry(job: Job) -> Path:
    return export.place(job)


def left_behind(job: Job) -> list[str]:
    """What is in the cache beside the entry and its lock."""
    known = {entry(job).name, f"{entry(job).name}.lock"}
    return sorted(path.name for path in entry(job).parent.iterdir() if path.name not in known)


def generated(engine_name: str, job: Job) -> tuple[int, ...]:
    from slm_energy.engines.base import find

    engine = find(engine_name).create()
    engine.load(job)
    return engine.generate(Batch(prompts=((5, 17, 3, 42),), new_tokens=12, stop="fixed"))[
        0
    ].output_ids


def test_an_export_is_made_once_and_generates_what_torch_does(job):
    assert ENGINE.needs_preparation(job)
    ENGINE.prepare(job)
    assert not ENGINE.needs_preparation(job)
    assert generated("onnx", job) == generated("torch", job)
    assert left_behind(job) == []
    written = entry(job).stat().st_mtime_ns
    ENGINE.prepare(job)
    assert entry(job).stat().st_mtime_ns == written


def test_the_manifest_says_what_was_exported_and_how(job):
    ENGINE.prepare(job)
    manifest = json.loads((entry(job) / "manifest.json").read_text())
    assert manifest["facts"]["attention"] == "eager"
    assert manifest["facts"]["deviation"] < 1e-3
    makers = (*export.PACKAGES, *export.RUNTIMES)
    assert manifest["identity"]["versions"] == {name: job.versions[name] for name in makers}
    assert "model.onnx" in manifest["files"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "manifest"])
def test_a_damaged_entry_is_made_again(job, damage):
    ENGINE.prepare(job)
    whole = (entry(job) / "model.onnx").read_bytes()
    target = entry(job) / ("manifest.json" if damage == "manifest" else "model.onnx")
    if damage == "missing":
        target.unlink()
    elif damage == "flipped":
        target.write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    else:
        target.write_bytes(target.read_bytes()[:100])
    assert ENGINE.needs_preparation(job)
    ENGINE.prepare(job)
    assert not ENGINE.needs_preparation(job)
    assert generated("onnx", job) == generated("torch", job)


def test_a_killed_export_leaves_no_entry_and_the_next_one_cleans_up(job, tmp_path):
    (tmp_path / "exporter.py").write_text(EXPORTER)
    told = json.dumps({"model": str(job.model_path), "cache": str(job.cache_path)})
    exporter = subprocess.Popen(
        [sys.executable, str(tmp_path / "exporter.py"), told], stderr=subprocess.DEVNULL
    )
    partial = entry(job).with_name(f"{entry(job).name}.partial")
    while not (partial / "config.json").exists():
        assert exporter.poll() is None, "the exporter ended before it could be killed"
        time.sleep(0.005)
    os.kill(exporter.pid, signal.SIGKILL)
    exporter.wait()
    assert not entry(job).exists()
    assert left_behind(job) == [partial.name]
    assert ENGINE.needs_preparation(job)
    ENGINE.prepare(job)
    assert left_behind(job) == []
    assert generated("onnx", job) == generated("torch", job)


EXPORTER = """
import dataclasses, json, sys
from pathlib import Path
from slm_energy import models
from slm_energy.cell import Settings
from slm_energy.config.groups import EngineConfig, MeasurementConfig, ModelConfig
from slm_energy.config.groups import ProviderConfig, WorkloadConfig
from slm_energy.engines.base import Job
from slm_energy.engines.onnx.engine import ENGINE

told = json.loads(sys.argv[1])
settings = Settings(
    model=ModelConfig(name="m", source=told["model"]),
    engine=EngineConfig(name="onnx", threads=1),
    provider=ProviderConfig(name="cpu"),
    measurement=MeasurementConfig(name="off", mode="off"),
    workload=WorkloadConfig(name="w", source="bundled"),
)
path = Path(told["model"])
ENGINE.prepare(
    Job(
        settings=settings,
        model_path=path,
        model_digest=models.digest(path),
        cache_path=Path(told["cache"]),
        versions=ENGINE.versions(),
        eos_ids=(0,),
    )
)
"""


def test_a_failed_export_leaves_nothing(make_job, tmp_path):
    CTRLLMHeadModel(CTRLConfig(n_embd=16, dff=32, n_layer=1, n_head=2, **SMALL)).save_pretrained(
        tmp_path / "model"
    )
    job = dataclasses.replace(
        make_job("onnx", folder=tmp_path / "model"), cache_path=tmp_path / "cache"
    )
    with pytest.raises(EngineError, match="ctrl cannot be exported") as caught:
        ENGINE.prepare(job)
    assert "\n" not in str(caught.value)
    assert left_behind(job) == []
    assert not entry(job).exists()


def test_the_address_follows_the_weights_the_attention_and_the_versions(job):
    other = dataclasses.replace(job.settings.model, attention="eager")
    changed = [
        dataclasses.replace(job, model_digest="other"),
        dataclasses.replace(job, settings=dataclasses.replace(job.settings, model=other)),
        dataclasses.replace(job, versions=job.versions | {"torch": "0"}),
        dataclasses.replace(job, versions=job.versions | {"onnxruntime": "0"}),
    ]
    assert len({entry(each) for each in (job, *changed)}) == 5


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_graph_that_computes_something_else_is_refused(make_job, tmp_path, monkeypatch, dtype):
    monkeypatch.setitem(decode.TOLERANCE, dtype, -1.0)
    job = dataclasses.replace(make_job("onnx", dtype=dtype, attention="eager"), cache_path=tmp_path)
    with pytest.raises(
        EngineError, match=r"graph .* differs from torch by \S+ of the largest logit"
    ):
        ENGINE.prepare(job)
    assert not entry(job).exists()


def test_only_settings_that_change_the_graph_change_its_address(job):
    def with_engine(**changes):
        engine = dataclasses.replace(job.settings.engine, **changes)
        return dataclasses.replace(job, settings=dataclasses.replace(job.settings, engine=engine))

    assert entry(with_engine(threads=2)) == entry(job)
    assert entry(with_engine(decode="generate")) != entry(job)
    assert entry(with_engine(dtype="int8")) != entry(job)


def test_a_tied_output_layer_is_stored_transposed_beside_its_embedding(job):
    ENGINE.prepare(job)
    graph = onnx.load(entry(job) / "model.onnx", load_external_data=False).graph
    values = {t.name: onnx.numpy_helper.to_array(t, str(entry(job))) for t in graph.initializer}
    embedding = values["transformer.wte.weight"]
    assert any(np.array_equal(value, embedding.T) for value in values.values())
    assert not [n for n in graph.node if n.op_type == "Transpose" and n.input[0] in values]


NEITHER = {"optimum-onnx": "absent", "optimum": "absent", "onnx": "1", "torch": "2"}


@pytest.mark.parametrize(
    ("installed", "decode", "reason"),
    [
        ({"onnxscript": "0.7", "transformers": "5.23.0"}, "session", None),
        ({"onnxscript": "0.7", "transformers": "5.23.0"}, "generate", "needs optimum"),
        ({"onnxscript": "absent", "transformers": "5.23.0"}, "session", "without onnxscript"),
        ({"onnxscript": "0.7", "transformers": "4.57.6"}, "session", "pip install optimum-onnx"),
    ],
)
def test_what_cannot_export_says_what_to_install(installed, decode, reason):
    found = export.missing(NEITHER | installed, decode)
    assert found is None if reason is None else reason in found
