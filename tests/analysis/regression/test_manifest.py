"""Which cells of two studies belong together, and what else changed between them."""

import json

import pytest

from slm_energy.analysis.regression.manifest import differences, match
from slm_energy.analysis.trials.frame import tidy
from slm_energy.errors import AnalysisError

COSTS = {"torch/cpu": 0.03, "onnx/cpu": 0.01}


def cells(frame, name="s", **constant):
    """A study whose trials all have these further params."""
    return tidy(frame.assign(**constant), name)


def files(environment=None, effective=None, sources=()):
    """Every trial's files say the same."""
    figures = [
        {"source_id": name, "domain": domain, "summed": summed, "window": window}
        for name, domain, summed, window in sources
    ]
    texts = {
        "environment.json": {
            "environment": {"platform": "Linux-6.1", **(environment or {})},
            "effective": effective or {},
        },
        "energy.json": figures,
    }
    return lambda run, name: json.dumps(texts[name])


def matched(a, b):
    found = match(a, b)
    return list(found.pairs), found.matched_by, [(row.name, row.reason) for row in found.left_out]


def differ(a, b, allow=(), mine=None, theirs=None):
    sides = ((a, mine or files()), (b, theirs or files()))
    return {
        row.fact: (row.group, row.a, row.b, row.cells, row.allowed)
        for row in differences(sides, match(a, b), allow)
    }


def test_cells_are_matched_by_name_whatever_their_versions_and_ids(study):
    before = cells(study(COSTS), **{"version.torch": "2.12"})
    renamed = study(COSTS, seed=2)
    renamed["cell"] = "new " + renamed["cell"]
    after = cells(renamed, **{"version.torch": "2.13"})
    pairs, keys, left_out = matched(before, after)
    assert sorted(pairs) == [("onnx-cpu", "new onnx-cpu"), ("torch-cpu", "new torch-cpu")]
    assert [a for a, _ in pairs] == list(before.cells)
    assert keys == ("model.name", "engine.name", "provider.name")
    assert left_out == []


def test_a_setting_that_tells_cells_of_one_study_apart_is_part_of_the_match(study):
    frame = study({"torch/cpu": 0.03, "onnx/cpu": 0.01})
    both = frame.assign(**{"engine.name": "torch", "engine.threads": "1"})
    both.loc[both["cell"] == "onnx-cpu", "engine.threads"] = "2"
    one = study({"torch/cpu": 0.03}).assign(**{"engine.threads": "1"})
    pairs, keys, left_out = matched(cells(both, "a"), cells(one, "b"))
    assert pairs == [("torch-cpu", "torch-cpu")]
    assert keys[-1] == "engine.threads"
    assert left_out == [("torch / cpu / threads=2", "not in b")]


def test_settings_tell_cells_apart_before_how_they_were_measured_does(study):
    def pair_of(short, long):
        frame = study(COSTS).assign(**{"engine.name": "torch"})
        torch = frame["cell"] == "torch-cpu"
        frame["workload.limit"] = torch.map({True: "1", False: "2"})
        frame["measurement.serve_s"] = torch.map({True: short, False: long})
        return cells(frame)

    pairs, keys, _ = matched(pair_of("5", "9"), pair_of("6", "5"))
    assert sorted(pairs) == [("onnx-cpu", "onnx-cpu"), ("torch-cpu", "torch-cpu")]
    assert keys[-1] == "workload.limit"


def test_of_a_study_that_was_upgraded_halfway_the_same_version_is_taken(study):
    frame = study({"torch/cpu": 0.03, "onnx/cpu": 0.01})
    mixed = frame.assign(**{"engine.name": "torch", "version.torch": "2.12"})
    mixed.loc[mixed["cell"] == "onnx-cpu", "version.torch"] = "2.13"
    new = study({"torch/cpu": 0.03}).assign(**{"version.torch": "2.13"})
    pairs, _, left_out = matched(cells(mixed, "a"), cells(new, "b"))
    assert pairs == [("onnx-cpu", "torch-cpu")]
    assert [reason for _, reason in left_out] == ["not in b"]


def test_cells_without_a_partner_or_a_valid_trial_are_named(study):
    before = study({**COSTS, "openvino/cpu": 0.02})
    after = study({**COSTS, "openvino/cuda": 0.02})
    after.loc[after["cell"] == "torch-cpu", ["outcome", "reason"]] = ["failed", "it broke"]
    pairs, _, left_out = matched(cells(before, "a"), cells(after, "b"))
    assert pairs == [("onnx-cpu", "onnx-cpu")]
    assert sorted(left_out) == [
        ("openvino", "not in b"),
        ("openvino / cuda", "not in a"),
        ("torch / cpu", "in b failed in 5 of 5 rounds: it broke"),
    ]


def test_studies_without_a_common_cell_are_refused_by_name(study):
    a, b = cells(study({"torch/cpu": 1}), "a"), cells(study({"onnx/cpu": 1}), "b")
    with pytest.raises(
        AnalysisError, match="a and b have no cell in common: a has bundled / torch"
    ):
        match(a, b)
    broken = study({"torch/cpu": 1, "onnx/cpu": 1})
    broken.loc[broken["cell"] == "torch-cpu", "outcome"] = "failed"
    with pytest.raises(AnalysisError, match="no cell has a valid trial in both a and b"):
        match(a, cells(broken, "b"))


def test_each_fact_that_differs_stands_in_a_group_that_can_be_allowed(study):
    same = {"workload.new_tokens": "64", "model.source": "here"}
    before = cells(
        study(COSTS),
        **same,
        **{"model.digest": "d1", "measurement.serve_s": "5", "engine.threads": "2"},
    )
    after = cells(
        study(COSTS, machine="lab-2"),
        **{**same, "model.source": "there"},
        **{"model.digest": "d2", "measurement.serve_s": "9", "engine.threads": "4"},
    )
    gpu, gpus = ("nvml/G1", "gpu", True, "serve"), ("nvml/G2", "gpu", True, "serve")
    mine = files({"python": "3.11", "nvidia_driver": "550"}, {"dtype": "float32"}, [gpu])
    theirs = files(
        {"python": "3.12", "nvidia_driver": "570", "platform": "Linux-6.2", "processor": "Xeon"},
        {"dtype": "float16"},
        [gpu, gpus],
    )
    found = differ(before, after, allow=("machine", "scope"), mine=mine, theirs=theirs)
    assert found == {
        "effective.dtype": ("engine", ("float32",), ("float16",), 2, False),
        "engine.threads": ("engine", ("2",), ("4",), 2, False),
        "environment.nvidia_driver": ("driver", ("550",), ("570",), 2, False),
        "environment.platform": ("kernel", ("Linux-6.1",), ("Linux-6.2",), 2, False),
        "environment.processor": ("machine", (), ("Xeon",), 2, True),
        "environment.python": ("versions", ("3.11",), ("3.12",), 2, False),
        "machine": ("machine", ("lab-1",), ("lab-2",), 2, True),
        "measurement.serve_s": ("measurement", ("5",), ("9",), 2, False),
        "model.digest": ("model", ("d1",), ("d2",), 2, False),
        "scope": ("scope", ("gpu",), ("2 gpu",), 2, True),
        "sources": ("machine", ("nvml/G1",), ("nvml/G1 + nvml/G2",), 2, True),
    }
    assert all(row[-1] for row in differ(before, after, ("all",), mine, theirs).values())


def test_scope_is_what_was_summed_while_serving(study):
    before, after = cells(study(COSTS)), cells(study(COSTS))
    package = ("rapl/0", "cpu_package", True, "serve")
    others = [("rapl/0:1", "cpu_core", False, "serve"), ("nvml/G1", "gpu", True, "load")]
    assert not differ(before, after, mine=files(sources=[package, *others]),
                      theirs=files(sources=[package]))  # fmt: skip
    found = differ(before, after, mine=files(sources=[package]))
    assert found["scope"][1:3] == (("cpu_package",), ())


def test_a_figure_that_an_engine_found_is_no_setting(study):
    before, after = cells(study(COSTS)), cells(study(COSTS))
    mine, theirs = files(effective={"deviation": 1e-7}), files(effective={"deviation": 2e-7})
    assert differ(before, after, mine=mine, theirs=theirs) == {}


def test_facts_of_all_sweeps_of_a_study_count(study):
    frame = study(COSTS)
    frame.loc[frame["round"] > 3, "sweep"] = "s2"
    later = set(frame.loc[frame["sweep"] == "s2", "run_id"])

    def attached(run, name):
        kernel = "Linux-6.2" if run in later else "Linux-6.1"
        return files({"platform": kernel})(run, name)

    found = differ(cells(frame), cells(study(COSTS)), mine=attached)
    assert found == {
        "environment.platform": ("kernel", ("Linux-6.1", "Linux-6.2"), ("Linux-6.1",), 2, False)
    }


def test_the_gpu_is_part_of_the_machine_and_compared_where_both_studies_name_it(study):
    a, b = cells(study(COSTS)), cells(study(COSTS))
    first, second = ({"device_uuid": uuid} for uuid in ("GPU-1", "GPU-2"))
    found = differ(a, b, mine=files(effective=first), theirs=files(effective=second))
    assert found["effective.device_uuid"] == ("machine", ("GPU-1",), ("GPU-2",), 2, False)
    assert differ(a, b, mine=files(), theirs=files(effective=second)) == {}


def test_process_ids_are_no_facts(study):
    a, b = cells(study(COSTS)), cells(study(COSTS))
    mine, theirs = ({"pid": pid, "adopted": [pid]} for pid in (7, 8))
    assert differ(a, b, mine=files(effective=mine), theirs=files(effective=theirs)) == {}
