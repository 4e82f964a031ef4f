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

from slm_energy.distributions import BUILDS
from slm_energy.engines import decode
from slm_energy.engines.base import Batch, LoadRequest, find
from slm_energy.engines.onnx import export, weights
from slm_energy.engines.onnx.engine import ENGINE
from slm_energy.errors import EngineError

SMALL = {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 0}


@pytest.fixture
def target(make_request, tmp_path) -> LoadRequest:
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
        make_request("onnx", folder=tmp_path / "model"), cache_path=tmp_path / "cache"
    )


def entry(target: LoadRequest) -> Path:
    return export.entry_path(target)


def left_behind(target: LoadRequest) -> list[str]:
    """Files in the cache other than the entry and its lock."""
    known = {entry(target).name, f"{entry(target).name}.lock"}
    return sorted(path.name for path in entry(target).parent.iterdir() if path.name not in known)


def generated(engine_name: str, target: LoadRequest) -> tuple[int, ...]:
    engine = find(engine_name).create()
    engine.load(target)
    return engine.generate(Batch(prompts=((5, 17, 3, 42),), new_tokens=12, stop="fixed"))[
        0
    ].output_ids


def test_an_export_is_made_once_and_generates_what_torch_does(target):
    assert ENGINE.needs_preparation(target)
    ENGINE.prepare(target)
    assert not ENGINE.needs_preparation(target)
    assert generated("onnx", target) == generated("torch", target)
    assert left_behind(target) == []
    written = entry(target).stat().st_mtime_ns
    ENGINE.prepare(target)
    assert entry(target).stat().st_mtime_ns == written


def test_the_manifest_records_what_was_exported_and_how(target):
    ENGINE.prepare(target)
    manifest = json.loads((entry(target) / "manifest.json").read_text())
    assert manifest["facts"]["attention"] == "eager"
    assert manifest["facts"]["deviation"] < 1e-3
    makers = (*export.PACKAGES, *export.RUNTIMES, BUILDS)
    assert manifest["identity"]["versions"] == {name: target.versions[name] for name in makers}
    assert "model.onnx" in manifest["files"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "manifest"])
def test_a_damaged_entry_is_remade(target, damage):
    ENGINE.prepare(target)
    whole = (entry(target) / "model.onnx").read_bytes()
    file = entry(target) / ("manifest.json" if damage == "manifest" else "model.onnx")
    if damage == "missing":
        file.unlink()
    elif damage == "flipped":
        file.write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    else:
        file.write_bytes(file.read_bytes()[:100])
    assert ENGINE.needs_preparation(target)
    ENGINE.prepare(target)
    assert not ENGINE.needs_preparation(target)
    assert generated("onnx", target) == generated("torch", target)


def test_a_killed_export_leaves_no_entry_and_the_next_one_cleans_up(target, tmp_path):
    (tmp_path / "exporter.py").write_text(EXPORTER)
    arguments = json.dumps({"model": str(target.model_path), "cache": str(target.cache_path)})
    exporter = subprocess.Popen(
        [sys.executable, str(tmp_path / "exporter.py"), arguments], stderr=subprocess.DEVNULL
    )
    partial = entry(target).with_name(f"{entry(target).name}.partial")
    while not (partial / "config.json").exists():
        assert exporter.poll() is None, "the exporter ended before it could be killed"
        time.sleep(0.005)
    os.kill(exporter.pid, signal.SIGKILL)
    exporter.wait()
    assert not entry(target).exists()
    assert left_behind(target) == [partial.name]
    assert ENGINE.needs_preparation(target)
    ENGINE.prepare(target)
    assert left_behind(target) == []
    assert generated("onnx", target) == generated("torch", target)


EXPORTER = """
import dataclasses, json, sys
from pathlib import Path
from slm_energy.models.folder import digest
from slm_energy.cell import Settings
from slm_energy.config.groups import EngineConfig, MeasurementConfig, ModelConfig
from slm_energy.config.groups import ProviderConfig, WorkloadConfig
from slm_energy.engines.base import LoadRequest
from slm_energy.engines.onnx.engine import ENGINE

arguments = json.loads(sys.argv[1])
settings = Settings(
    model=ModelConfig(name="m", source=arguments["model"]),
    engine=EngineConfig(name="onnx", threads=1),
    provider=ProviderConfig(name="cpu"),
    measurement=MeasurementConfig(name="off", mode="off"),
    workload=WorkloadConfig(name="w", source="bundled"),
)
path = Path(arguments["model"])
ENGINE.prepare(
    LoadRequest(
        settings=settings,
        model_path=path,
        model_digest=digest(path),
        cache_path=Path(arguments["cache"]),
        versions=ENGINE.versions(),
        eos_ids=(0,),
    )
)
"""


def test_a_failed_export_leaves_nothing(make_request, tmp_path):
    CTRLLMHeadModel(CTRLConfig(n_embd=16, dff=32, n_layer=1, n_head=2, **SMALL)).save_pretrained(
        tmp_path / "model"
    )
    target = dataclasses.replace(
        make_request("onnx", folder=tmp_path / "model"), cache_path=tmp_path / "cache"
    )
    with pytest.raises(EngineError, match="ctrl cannot be exported") as caught:
        ENGINE.prepare(target)
    assert "\n" not in str(caught.value)
    assert left_behind(target) == []
    assert not entry(target).exists()


def test_the_entry_depends_on_the_weights_the_attention_and_the_versions(target):
    other = dataclasses.replace(target.settings.model, attention="eager")
    changed = [
        dataclasses.replace(target, model_digest="other"),
        dataclasses.replace(target, settings=dataclasses.replace(target.settings, model=other)),
        dataclasses.replace(target, versions=target.versions | {"torch": "0"}),
        dataclasses.replace(target, versions=target.versions | {"onnxruntime": "0"}),
    ]
    assert len({entry(each) for each in (target, *changed)}) == 5


@pytest.mark.parametrize("dtype", ["float32", "int8", "int4"])
def test_a_graph_that_computes_something_else_is_refused(
    make_request, tmp_path, monkeypatch, dtype
):
    monkeypatch.setitem(decode.TOLERANCE, dtype, -1.0)
    target = dataclasses.replace(
        make_request("onnx", dtype=dtype, attention="eager"), cache_path=tmp_path
    )
    with pytest.raises(
        EngineError, match=r"graph .* differs from torch by \S+ of the largest logit"
    ):
        ENGINE.prepare(target)
    assert not entry(target).exists()


def test_4_bit_weights_in_the_wrong_order_are_refused(make_request, tmp_path, monkeypatch):
    """The tolerance for 4 bits is wide, and yet below what a wrong graph computes."""
    right = weights.quantize

    def shuffled(source: Path, folder: Path, bits: int, size: int, *, symmetric: bool) -> None:
        right(source, folder, bits, size, symmetric=symmetric)
        model = onnx.load(folder / "model.onnx")
        packed = {n.input[1] for n in model.graph.node if n.op_type == "MatMulNBits"}
        for tensor in model.graph.initializer:
            if tensor.name in packed:
                values = np.roll(onnx.numpy_helper.to_array(tensor), 1, axis=0)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        onnx.save(model, folder / "model.onnx")

    monkeypatch.setattr(weights, "quantize", shuffled)
    target = dataclasses.replace(make_request("onnx", dtype="int4"), cache_path=tmp_path)
    with pytest.raises(EngineError, match=r"4-bit weights differs from torch by"):
        ENGINE.prepare(target)


def test_only_settings_that_change_the_graph_change_the_entry(target):
    def with_engine(**changes):
        engine = dataclasses.replace(target.settings.engine, **changes)
        return dataclasses.replace(
            target, settings=dataclasses.replace(target.settings, engine=engine)
        )

    assert entry(with_engine(threads=2)) == entry(target)
    assert entry(with_engine(decode="generate")) != entry(target)
    assert entry(with_engine(dtype="int8")) != entry(target)
    four_bits = entry(with_engine(dtype="int4"))
    assert entry(with_engine(dtype="int4", options={"group_size": 32})) == four_bits
    assert entry(with_engine(dtype="int4", options={"group_size": 64})) != four_bits


def test_a_tied_output_layer_is_stored_transposed_beside_its_embedding(target):
    ENGINE.prepare(target)
    graph = onnx.load(entry(target) / "model.onnx", load_external_data=False).graph
    values = {t.name: onnx.numpy_helper.to_array(t, str(entry(target))) for t in graph.initializer}
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
        ({"onnxscript": "0.7", "transformers": "4.57.6"}, "session", "needs optimum to export"),
        ({"onnxscript": "absent", "transformers": "absent"}, "session", "slm-energy[onnx]"),
    ],
)
def test_missing_packages_name_what_to_install(installed, decode, reason):
    message = export.missing(NEITHER | installed, decode)
    assert message is None if reason is None else reason in message
