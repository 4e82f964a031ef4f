"""One cell under several names: the machine's noise floor, and what a report makes of it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from slm_energy.analysis import build, options
from slm_energy.analysis.noise_floor import from_text, to_text, twins
from slm_energy.analysis.render.markdown import to_markdown
from slm_energy.errors import AnalysisError

ENERGY = "energy/per_output_token_j"


def renamed(frame, **changes):
    """The same trials of torch, its two cells told apart by the name of the workload only."""
    frame = frame.assign(**{"workload.name": frame["engine.name"], "workload.digest": "w"})
    return frame.assign(**{"engine.name": "torch", "model.digest": "m", **changes})


def aa(study, rounds=8, noise=0.01, seed=1):
    return renamed(study({"A/cpu": 0.03, "B/cpu": 0.03}, rounds, noise=noise, seed=seed))


def report(frame, **known):
    return build(frame, options({"study": "toy", "draws": 999}), **known)


def floor(frame):
    return report(frame).noise_floor


LEVELS = {
    "model.name": "m", "model.digest": "1", "workload.name": "A", "workload.digest": "2",
    "engine.name": "torch", "version.torch": "2.1", "workload.source": "bundled",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"workload.name": "B"}, True),
        ({"workload.name": "B", "workload.source": "/elsewhere"}, True),
        ({"model.name": "n"}, True),
        ({"workload.name": "B", "workload.digest": "3"}, False),
        ({"workload.name": "B", "version.torch": "2.2"}, False),
        ({"workload.name": "B", "engine.threads": "2"}, False),
    ],
)
def test_twins_differ_in_names_and_places_only(change, same):
    found = twins({"a": LEVELS, "b": LEVELS | change})
    assert found == ([("a", "b")] if same else [])


def test_without_digests_two_names_may_stand_for_two_things():
    plain = {key: value for key, value in LEVELS.items() if not key.endswith("digest")}
    assert twins({"a": plain, "b": plain | {"workload.name": "B"}}) == []


def test_a_study_of_one_cell_under_two_names_measures_the_noise_floor(study):
    frame = aa(study, rounds=40)
    found = floor(frame)
    assert (found.study, found.machine, found.rounds) == ("toy", "lab-1", 40)
    assert (found.cell, found.day) == ("bundled / torch / cpu", "2026-01-01")
    seen = found.of(ENERGY)
    logs = np.log(frame.pivot(index="round", columns="workload.name", values=ENERGY))
    a, b = frame["workload.name"].unique()  # in the order of the first round
    apart = stats.ttest_1samp(logs[a] - logs[b], 0).confidence_interval(0.95)
    assert [seen.low, seen.high] == pytest.approx(np.exp([apart.low, apart.high]))
    assert seen.sd_pct == pytest.approx(1.0, rel=0.3)
    assert seen.largest_pct == pytest.approx(100 * (max(seen.high, 1 / seen.low) - 1))
    assert found.metrics[0].name == ENERGY


def test_of_three_names_the_two_that_differ_most_count(study):
    frame = renamed(study({"A/cpu": 0.03, "B/cpu": 0.03, "C/cpu": 0.033}, 8, noise=0.002))
    assert 10 < floor(frame).of(ENERGY).largest_pct < 11


def test_of_two_cells_the_noisier_one_is_the_floor(study):
    loud = renamed(study({"A/tpu": 1.0, "B/tpu": 1.0}, 8, noise=0.05, seed=3))
    loud = loud.assign(run_id="loud" + loud["run_id"])
    both = pd.concat([aa(study), loud], ignore_index=True)
    assert floor(both).cell == "bundled / torch / tpu"


def test_other_studies_quote_it_and_do_not_rely_on_what_is_within_it(study):
    stored = floor(aa(study, noise=0.05))
    found = report(
        study({"torch/cpu": 0.030, "onnx/cpu": 0.029}, 8, noise=0.001), noise_floor=stored
    )
    assert found.metrics[0].families[0].pairs[0].verdict == "saves"
    said = " ".join(found.findings)
    assert "Noise floor of this machine (study toy of 2026-01-01, bundled / torch / cpu)" in said
    assert "and therefore not reliable: onnx against torch." in said
    assert "Noise floor" in to_markdown(found)

    far = report(study({"torch/cpu": 0.030, "onnx/cpu": 0.015}, 8), noise_floor=stored)
    assert "do not rely" not in " ".join(far.findings)


def test_a_study_with_no_twins_has_no_floor_of_its_own(study):
    found = report(study({"torch/cpu": 0.030, "onnx/cpu": 0.029}))
    assert found.noise_floor is None
    assert "Noise floor" not in " ".join(found.findings)


def test_it_is_stored_as_text_and_read_back(study):
    found = floor(aa(study))
    assert from_text(to_text(found)) == found
    assert len(to_text(found)) < 2000
    other = dataclasses.replace(found, metrics=())
    with pytest.raises(AnalysisError, match="slm-energy --config-name aa_noise_floor"):
        from_text(to_text(other).replace("rounds", "runden"))
