"""The cell that runs once more at the start of each round."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from slm_energy.analysis import build, options
from slm_energy.analysis.render import figures
from slm_energy.analysis.render.html import to_html
from slm_energy.errors import AnalysisError

ENERGY = "energy/per_output_token_j"
TWO = {"torch/cpu": 0.033, "onnx/cpu": 0.012}


def with_sentinel(study, rounds=6, drift=0.0, noise=0.001, minutes=30):
    """A study with torch run first in every round; the sentinel's log energy drifts per round."""
    frame = study(TWO, rounds).assign(**{"workload.name": "bundled"})
    first = frame.drop_duplicates("round").copy()
    generator = np.random.default_rng(5)
    level = 0.033 * np.exp(drift * (first["round"] - 1) + generator.normal(0, noise, rounds))
    begun = pd.Timestamp("2026-01-01") + pd.to_timedelta(minutes * (first["round"] - 1), unit="min")
    first = first.assign(
        **{
            "workload.name": "sentinel", "engine.name": "torch", "cell": "watch", ENERGY: level,
            "run_id": "w" + first["run_id"], "order": first["order"] - 0.5,
            "started": begun.map(lambda when: when.isoformat()),
        }
    )  # fmt: skip
    both = pd.concat([first, frame], ignore_index=True)
    return both.assign(order=both["order"].rank().astype(int))


def report(frame):
    return build(frame, options({"study": "toy", "draws": 999}))


def sentinel(frame):
    return report(frame).metrics[0].sentinel


def test_it_is_compared_with_nothing_and_changes_no_other_name(study):
    found, plain = report(with_sentinel(study)), report(study(TWO, 6))
    assert found.labels == plain.labels
    assert found.audit.outcomes == {"valid": 12}
    pairs = [family.pairs for family in found.metrics[0].families]
    assert pairs == [family.pairs for family in plain.metrics[0].families]
    assert len(found.trials) == 12


def test_its_drift_is_the_slope_over_the_time_of_its_trials(study):
    frame = with_sentinel(study, rounds=8, drift=0.01)
    seen = sentinel(frame)
    own = frame[frame["cell"] == "watch"]
    theirs = stats.linregress(np.arange(8) / 7, np.log(own[ENERGY]))
    assert seen.hours == pytest.approx(3.5)
    assert np.log1p(seen.drift.slope_pct / 100) == pytest.approx(theirs.slope)
    assert seen.drift.p == pytest.approx(theirs.pvalue)
    assert (seen.label, len(seen.points)) == ("bundled / torch / cpu", 8)


def test_the_report_says_whether_the_machine_drifted(study):
    def said(frame):
        [line] = [line for line in report(frame).notes if line.startswith("Sentinel")]
        return line

    drifted = said(with_sentinel(study, drift=0.01))
    assert drifted.startswith("Sentinel bundled / torch / cpu, energy per output token: +5")
    assert "over 2.5 h (6 trials), 95 % interval" in drifted
    assert drifted.endswith("it drifted.")
    assert said(with_sentinel(study)).endswith("no drift is shown.")
    assert "over 5 min" in said(with_sentinel(study, minutes=1))
    assert "drift needs three trials" in said(with_sentinel(study, rounds=2))


def test_its_trials_are_diamonds_in_the_drift_figure(study):
    found = report(with_sentinel(study))
    assert figures.drift(found, found.metrics[0]).count('class="mean"') == 6
    assert "diamonds, the sentinel" in to_html(found)
    assert "diamonds" not in to_html(report(study(TWO, 6)))


def test_one_without_a_valid_trial_is_left_out_with_its_reason(study):
    frame = with_sentinel(study)
    frame.loc[frame["cell"] == "watch", ["outcome", "reason"]] = ["failed", "out of memory"]
    found = report(frame)
    assert found.metrics[0].sentinel is None
    assert any("failed in 6 of 6 rounds: out of memory" in note for note in found.notes)


def test_a_study_of_which_only_the_sentinel_ran_says_so(study):
    frame = with_sentinel(study)
    with pytest.raises(AnalysisError, match="only its sentinel has run"):
        report(frame[frame["cell"] == "watch"])
