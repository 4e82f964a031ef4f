"""What each cell's trials are like, and what could make them less alike."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from slm_energy.analysis.stats.comparison import Block
from slm_energy.analysis.stats.diagnostics import TrialFacts, describe, diagnose
from slm_energy.analysis.stats.outliers import find


def block(values, **kwargs):
    values = np.array(values, dtype=float)
    return Block(cells=tuple("abcd"[: values.shape[1]]), values=values, **kwargs)


def trials(data, seed=1, **columns):
    """The trials of a block in a shuffled order within rounds, as a table."""
    generator, rows = np.random.default_rng(seed), []
    for number in range(len(data.values)):
        for cell in generator.permutation(list(data.cells)):
            value = data.values[number, data.cells.index(str(cell))]
            if not np.isnan(value):
                rows.append((f"run{len(rows)}", str(cell), number + 1, len(rows) + 1))
    return pd.DataFrame(rows, columns=["run_id", "cell", "round", "order"]).assign(**columns)


def facts(frame):
    """The same trials as `diagnose` takes them."""
    warm = frame.get("temperature_c", [None] * len(frame))
    columns = (frame["run_id"], frame["cell"], frame["round"], frame["order"], warm)
    return [
        TrialFacts(run_id=run, cell=cell, round=number, order=order, temperature_c=degrees)
        for run, cell, number, order, degrees in zip(*columns, strict=True)
    ]


def noisy(rounds=8, cells=3, seed=0, drift=0.0):
    generator = np.random.default_rng(seed)
    logs = generator.normal(0, 0.01, (rounds, cells)) + drift * np.arange(rounds)[:, None]
    return block(np.exp(logs) * (1 + np.arange(cells)))


def diagnosed(data, frame):
    flagged = find(data.values, 0.05, rounds=True)
    return diagnose(data, facts(frame), flagged, (), 0.05, rounds=True)


def slopes(data, frame):
    found = diagnosed(data, frame).drifts
    return {drift.against: drift for drift in found}


def test_a_cells_row_is_what_scipy_says():
    values = np.array([[1.0], [1.1], [1.3], [np.nan]])
    row = describe(block(values, low=values * 0.9, high=values * 1.1), "a", 0.05)
    ends = stats.ttest_1samp(np.log(values[:3, 0]), 0).confidence_interval(0.95)
    assert (row.trials, row.median, row.minimum, row.maximum) == (3, 1.1, 1.0, 1.3)
    assert row.mean == pytest.approx(stats.gmean(values[:3, 0]), abs=1e-12)
    assert (row.low, row.high) == pytest.approx(tuple(np.exp(ends)), abs=1e-9)
    assert row.cv_pct == pytest.approx(100 * stats.variation(values[:3, 0], ddof=1))
    assert (row.instrument_low, row.instrument_high) == pytest.approx(
        (0.9 * row.mean, 1.1 * row.mean)
    )


def test_the_interval_with_sensor_gain_is_that_of_the_absolute_figure():
    values = np.array([[2.0], [8.0]])
    row = describe(block(values, with_gain=(values * 0.9, values * 1.1)), "a", 0.05)
    assert (row.with_gain_low, row.with_gain_high) == pytest.approx((4 * 0.9, 4 * 1.1))
    assert describe(block(values), "a", 0.05).with_gain_low is None


def test_one_trial_has_no_spread():
    row = describe(block([[2.0]]), "a", 0.05)
    assert (row.low, row.cv_pct, row.instrument_low) == (None, None, None)
    assert describe(block([[np.nan]]), "a", 0.05) is None


@pytest.mark.parametrize("against", ["place", "temperature"])
def test_a_drift_within_rounds_is_the_slope_that_statsmodels_finds(against):
    data = noisy(drift=0.01)
    data.values[2, 1] = np.nan
    frame = trials(data)
    frame["temperature_c"] = 40 + frame["order"] ** 1.5 * 0.3 + frame["round"] % 3
    place = frame.groupby("round")["order"].rank()
    covariate = {"place": place, "temperature": frame["temperature_c"]}[against]
    levels = [
        pd.get_dummies(frame["cell"], dtype=float),
        pd.get_dummies(frame["round"], dtype=float).iloc[:, 1:],
    ]
    y = np.log(data.values[frame["round"] - 1, frame["cell"].map("abc".index)])
    theirs = sm.OLS(y, np.column_stack([covariate, *levels])).fit()
    ours = slopes(data, frame)[against]
    low, high = theirs.conf_int()[0]
    assert np.log1p(ours.slope_pct / 100) == pytest.approx(theirs.params[0], abs=1e-9)
    assert np.log1p(ours.low_pct / 100) == pytest.approx(low, abs=1e-9)
    assert np.log1p(ours.high_pct / 100) == pytest.approx(high, abs=1e-9)
    assert ours.p == pytest.approx(theirs.pvalues[0], abs=1e-9)


def test_a_drift_over_rounds_rests_on_one_value_per_round():
    data = noisy(drift=0.01)
    theirs = stats.linregress(np.arange(8), np.log(data.values).mean(axis=1))
    ours = slopes(data, trials(data))["round"]
    assert np.log1p(ours.slope_pct / 100) == pytest.approx(theirs.slope, abs=1e-9)
    assert (ours.p, ours.trials) == (pytest.approx(theirs.pvalue, abs=1e-9), 8)
    assert ours.p < 0.001


def test_a_missing_trial_of_a_costly_cell_makes_no_round_cheap():
    data = noisy(drift=0.0)
    data.values[7, 2] = np.nan
    assert abs(slopes(data, trials(data))["round"].slope_pct) < 0.5


def test_slopes_are_adjusted_for_each_other():
    found = slopes(noisy(), trials(noisy(), temperature_c=np.arange(24.0) ** 1.1))
    p, adjusted = zip(*((drift.p, drift.p_adjusted) for drift in found.values()), strict=True)
    assert len(p) == 3
    assert min(adjusted) == pytest.approx(min(1, 3 * min(p)))
    assert max(adjusted) >= max(p)


def test_without_a_start_temperature_there_is_no_drift_with_it():
    data = noisy()
    assert set(slopes(data, trials(data))) == {"round", "place"}


def test_too_few_trials_have_no_drift():
    data = noisy(rounds=1)
    assert slopes(data, trials(data)) == {}


def test_the_residual_spread_is_the_noise_without_drift():
    data = noisy(rounds=200, drift=0.05)
    seen = diagnosed(data, trials(data))
    assert seen.residual_sd_pct == pytest.approx(1.0, rel=0.1)
    assert seen.residual_shapiro_p > 0.01
    assert len(seen.points) == 600
