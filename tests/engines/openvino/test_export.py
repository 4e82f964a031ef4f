import dataclasses
import shutil
from types import SimpleNamespace

import pytest

from slm_energy import cache
from slm_energy.engines import decode
from slm_energy.engines.base import LoadRequest
from slm_energy.engines.openvino import export as exports
from slm_energy.engines.openvino.engine import ENGINE
from slm_energy.errors import EngineError
from tests.processor import has


@pytest.fixture
def target(make_request, twin, tmp_path) -> LoadRequest:
    """An export of a tiny Llama into an empty cache."""
    return dataclasses.replace(
        make_request("openvino", twin("tinyllama-1.1b")), cache_path=tmp_path / "cache"
    )


@pytest.fixture
def exported(make_request, twin, target) -> LoadRequest:
    """The same with its export, a copy of one in the cache of all tests."""
    shared = make_request("openvino", twin("tinyllama-1.1b"))
    ENGINE.prepare(shared)
    shutil.copytree(exports.cache_folder(shared), exports.cache_folder(target))
    return target


def files(target: LoadRequest) -> list[str]:
    """What an export left, by name, but for locks."""
    kind = exports.cache_folder(target).parent
    return sorted(p.name for p in kind.iterdir() if p.suffix != ".lock") if kind.exists() else []


def test_an_export_is_made_once_and_says_what_it_is(target):
    assert ENGINE.needs_preparation(target)
    ENGINE.prepare(target)
    assert not ENGINE.needs_preparation(target)
    facts = cache.facts(exports.cache_folder(target))
    assert facts["attention"] == "sdpa"
    assert 0 <= facts["deviation"] < 1e-4
    assert files(target) == [exports.cache_folder(target).name]
    written = (exports.cache_folder(target) / exports.GRAPH).stat().st_mtime_ns
    ENGINE.prepare(target)
    assert (exports.cache_folder(target) / exports.GRAPH).stat().st_mtime_ns == written


def test_damaged_weights_are_exported_again(exported):
    assert not ENGINE.needs_preparation(exported)
    weights = (exports.cache_folder(exported) / exports.GRAPH).with_suffix(".bin")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    assert ENGINE.needs_preparation(exported)
    ENGINE.prepare(exported)
    assert not ENGINE.needs_preparation(exported)
    assert weights.read_bytes() == whole


def test_a_disk_without_room_for_the_weights_is_named_before_openvino_writes(target, monkeypatch):
    """OpenVINO removes what it wrote, and says `iostream error`."""
    free = SimpleNamespace(free=2**16)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    with pytest.raises(OSError, match=r"No space left on device: '.*\.partial'"):
        ENGINE.prepare(target)
    assert files(target) == []


def test_an_export_in_16_bits_leaves_torch_as_it_was(make_request, tmp_path):
    import torch

    before = torch.bmm
    target = dataclasses.replace(
        make_request("openvino", dtype="bfloat16", threads=2), cache_path=tmp_path
    )
    if has("bf16"):
        ENGINE.prepare(target)
    else:
        with pytest.raises(EngineError, match="set to bf16, but is f32"):
            ENGINE.prepare(target)
    assert torch.bmm is before


def test_a_graph_that_computes_something_else_is_refused(target, monkeypatch):
    eager = dataclasses.replace(target.settings.model, attention="eager")
    target = dataclasses.replace(target, settings=dataclasses.replace(target.settings, model=eager))
    monkeypatch.setitem(decode.TOLERANCE, "float32", -1.0)
    with pytest.raises(EngineError, match=r"differs from torch by \S+ of the largest logit"):
        ENGINE.prepare(target)
    assert files(target) == []


def test_only_what_changes_the_graph_changes_its_address(target):
    def with_engine(**changes) -> LoadRequest:
        engine = dataclasses.replace(target.settings.engine, **changes)
        return dataclasses.replace(
            target, settings=dataclasses.replace(target.settings, engine=engine)
        )

    eager = dataclasses.replace(target.settings.model, attention="eager")
    changed = [
        with_engine(dtype="int8"),
        dataclasses.replace(target, model_digest="other"),
        dataclasses.replace(target, versions={**target.versions, "openvino": "0"}),
        dataclasses.replace(target, settings=dataclasses.replace(target.settings, model=eager)),
    ]
    assert len({exports.cache_folder(one) for one in [target, *changed]}) == 5
    assert exports.cache_folder(with_engine(threads=2)) == exports.cache_folder(target)
    assert exports.cache_folder(with_engine(decode="generate")) == exports.cache_folder(target)
    served_by = dataclasses.replace(target, versions={**target.versions, "openvino-genai": "0"})
    assert exports.cache_folder(served_by) == exports.cache_folder(target)
