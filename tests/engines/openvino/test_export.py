import dataclasses

import pytest

from slm_energy import cache
from slm_energy.engines import decode
from slm_energy.engines.base import Job
from slm_energy.engines.openvino import export as exports
from slm_energy.engines.openvino.engine import ENGINE
from slm_energy.errors import EngineError


@pytest.fixture
def job(make_job, twin, tmp_path) -> Job:
    """An export of a tiny Llama into an empty cache."""
    return dataclasses.replace(
        make_job("openvino", twin("tinyllama-1.1b")), cache_path=tmp_path / "cache"
    )


def files(job: Job) -> list[str]:
    """What an export left, by name, but for locks."""
    kind = exports.place(job).parent
    return sorted(p.name for p in kind.iterdir() if p.suffix != ".lock") if kind.exists() else []


def test_an_export_is_made_once_and_says_what_it_is(job):
    assert ENGINE.needs_preparation(job)
    ENGINE.prepare(job)
    assert not ENGINE.needs_preparation(job)
    told = cache.facts(exports.place(job))
    assert told["attention"] == "sdpa"
    assert 0 <= told["deviation"] < 1e-4
    assert files(job) == [exports.place(job).name]
    written = (exports.place(job) / exports.GRAPH).stat().st_mtime_ns
    ENGINE.prepare(job)
    assert (exports.place(job) / exports.GRAPH).stat().st_mtime_ns == written


def test_damaged_weights_are_exported_again(job):
    ENGINE.prepare(job)
    weights = (exports.place(job) / exports.GRAPH).with_suffix(".bin")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    assert ENGINE.needs_preparation(job)
    ENGINE.prepare(job)
    assert not ENGINE.needs_preparation(job)
    assert weights.read_bytes() == whole


def test_an_export_in_16_bits_leaves_torch_as_it_was(make_job, tmp_path):
    import torch

    before = torch.bmm
    job = dataclasses.replace(make_job("openvino", dtype="bfloat16"), cache_path=tmp_path)
    ENGINE.prepare(job)
    assert torch.bmm is before


def test_a_graph_that_computes_something_else_is_refused(job, monkeypatch):
    eager = dataclasses.replace(job.settings.model, attention="eager")
    job = dataclasses.replace(job, settings=dataclasses.replace(job.settings, model=eager))
    monkeypatch.setitem(decode.TOLERANCE, "float32", -1.0)
    with pytest.raises(EngineError, match=r"differs from torch by \S+ of the largest logit"):
        ENGINE.prepare(job)
    assert files(job) == []


def test_only_what_changes_the_graph_changes_its_address(job):
    def with_engine(**changes) -> Job:
        engine = dataclasses.replace(job.settings.engine, **changes)
        return dataclasses.replace(job, settings=dataclasses.replace(job.settings, engine=engine))

    eager = dataclasses.replace(job.settings.model, attention="eager")
    changed = [
        with_engine(dtype="int8"),
        dataclasses.replace(job, model_digest="other"),
        dataclasses.replace(job, versions={**job.versions, "openvino": "0"}),
        dataclasses.replace(job, settings=dataclasses.replace(job.settings, model=eager)),
    ]
    assert len({exports.place(one) for one in [job, *changed]}) == 5
    assert exports.place(with_engine(threads=2)) == exports.place(job)
    assert exports.place(with_engine(decode="generate")) == exports.place(job)
