"""Two independent samples per cell: the figures against scipy and statsmodels, and the verdicts."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_ind

from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.stats.welch import IndependentPair, Sample, judge, noise

LATENCY = Metric(name="latency/e2e_p50_s")
THROUGHPUT = Metric(name="throughput/output_tokens_per_s")


def a_pair(a, b, metric=LATENCY, own=None):
    """Own: log half-width of the measurement's interval, the same in every trial."""
    samples = (Sample(logs=np.asarray(logs, float), below=own, above=own) for logs in (a, b))
    return IndependentPair(metric=metric, cell="x", a=next(samples), b=next(samples))


def scattered(shift, noise=0.01, trials=5, **keys):
    """Logs with exactly that mean difference and that standard deviation."""
    steps = np.linspace(-1, 1, trials)
    steps *= noise / np.std(steps, ddof=1)
    return a_pair(steps, steps + shift, **keys)


def judged(pair, margin=0.02, alpha=0.05, floor=0.0):
    return judge([pair], margin=margin, alpha=alpha, floor=floor)[0]


@pytest.mark.parametrize("seed", range(8))
def test_interval_and_p_are_those_of_scipy_and_statsmodels(seed):
    generator = np.random.default_rng(seed)
    a = generator.normal(0, 0.01, 3 + seed)
    b = generator.normal(0.01, 0.05, 9 - seed)
    found = judged(a_pair(a, b), alpha=0.1)
    welch = stats.ttest_ind(b, a, equal_var=False)
    ends = welch.confidence_interval(0.9)
    assert found.p == pytest.approx(welch.pvalue, rel=1e-9)
    assert np.log([found.low, found.high]) == pytest.approx([ends.low, ends.high], rel=1e-9)
    assert np.log(found.ratio) == pytest.approx(b.mean() - a.mean(), rel=1e-9)
    band = -np.log(0.98)
    tost = ttost_ind(b, a, -band, band, usevar="unequal")[0]
    assert found.p_equivalent == pytest.approx(tost, rel=1e-9)


def test_both_p_are_adjusted_with_holm_over_the_pairs_that_have_one():
    generator = np.random.default_rng(3)
    pairs = [
        a_pair(generator.normal(0, 0.01, 5), generator.normal(shift, 0.01, 5))
        for shift in (0, 0.005, 0.02, 0.03)
    ]
    alone = [judged(pair) for pair in pairs]
    together = judge([*pairs, a_pair([0], [1])], margin=0.02, alpha=0.05, floor=0)
    for name in ("p", "p_equivalent"):
        raw = [getattr(each, name) for each in alone]
        adjusted = [getattr(each, name) for each in together]
        assert adjusted[:4] == pytest.approx(multipletests(raw, method="holm")[1], rel=1e-9)
        assert adjusted[4] is None


@pytest.mark.parametrize(
    ("shift", "keys", "verdict", "reason"),
    [
        (0.05, {}, "regression", ""),
        (-0.05, {}, "improvement", ""),
        (0.05, {"metric": THROUGHPUT}, "improvement", ""),
        (-0.05, {"metric": THROUGHPUT}, "regression", ""),
        (0.001, {}, "equivalent", ""),
        (0.03, {}, "inconclusive", "the interval crosses the margin"),
        (0.05, {"own": 0.01}, "regression", ""),
        (0.05, {"own": 0.02}, "inconclusive", "with instruments and floor added, it includes 1"),
        (0.05, {"own": 0.03}, "below the instrument's resolution", "the instruments resolve 6.2 %"),
        (0.001, {"own": 0.001}, "equivalent", ""),
        (0.001, {"own": 0.004}, "inconclusive", "with instruments and floor added, it crosses"),
        (0.001, {"own": 0.02}, "below the instrument's resolution", "the instruments resolve 4.1"),
        (0.001, {"own": np.inf}, "below the instrument's resolution", "extends to zero"),
    ],
)  # fmt: skip
def test_the_interval_and_the_instruments_decide_against_the_margin(shift, keys, verdict, reason):
    found = judged(scattered(shift, **keys))
    assert found.verdict == verdict
    assert (reason in found.reason) if reason else not found.reason


def test_a_regression_must_be_beyond_the_noise_floor_of_the_machine():
    assert judged(scattered(0.05), floor=0.03).verdict == "regression"
    assert judged(scattered(0.05), floor=0.04).verdict == "inconclusive"
    assert judged(scattered(0.001), floor=0.01).verdict == "inconclusive"


def test_many_cells_need_more_evidence_than_one():
    one = scattered(0.05, noise=0.02)
    assert judged(one).verdict == "regression"
    rest = [scattered(0.0, noise=0.02)] * 40
    first, *others = judge([one, *rest], margin=0.02, alpha=0.05, floor=0)
    assert (first.verdict, first.reason) == (
        "inconclusive",
        "the interval crosses the margin",
    )
    assert first.joint_low < 1.02 < first.low
    assert {each.verdict for each in others} == {"inconclusive"}
    shown = judge([scattered(0.0, noise=0.011)] * 40, margin=0.02, alpha=0.05, floor=0)
    assert shown[0].reason == "equivalence is not shown after adjustment for 40 tests"


def test_the_other_way_round_says_the_opposite():
    pair = scattered(0.05, noise=0.01)
    there, back = judged(pair), judged(a_pair(pair.b.logs, pair.a.logs))
    assert (there.verdict, back.verdict) == ("regression", "improvement")
    assert there.ratio * back.ratio == pytest.approx(1)
    assert there.low * back.high == pytest.approx(1)
    assert there.p == pytest.approx(back.p)


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ([0], [1, 1.1], "one trial in a study gives no interval"),
        ([0, 0.1], [1], "one trial in a study gives no interval"),
        ([0, 0], [1, 1], "the values do not vary, so their spread is unknown"),
    ],
)
def test_without_a_spread_there_is_a_ratio_and_no_verdict(a, b, reason):
    found = judged(a_pair(a, b))
    assert found.ratio == pytest.approx(np.exp(np.mean(b) - np.mean(a)))
    assert (found.low, found.p, found.verdict) == (None, None, "inconclusive")
    assert found.reason.startswith(reason)


def test_the_same_value_in_every_trial_of_both_is_equivalent_and_another_is_not_tested():
    same, other = judged(a_pair([2.0] * 3, [2.0] * 4)), judged(a_pair([2.0] * 3, [3.0] * 4))
    assert (same.stated, same.reason) == ("equivalent", "")
    assert other.stated == "not tested"


def test_a_cell_that_varies_in_one_study_only_is_judged():
    found = judged(a_pair([0, 0, 0], [0.05, 0.051, 0.052]))
    assert found.verdict == "regression"


def test_the_resolution_takes_the_instruments_worst_case():
    pair = IndependentPair(
        metric=LATENCY,
        cell="x",
        a=Sample(logs=np.zeros(2), below=0.01, above=0.02),
        b=Sample(logs=np.zeros(2), below=0.04, above=0.08),
    )
    assert pair.resolution == pytest.approx(0.09)
    assert judged(pair).instrument == pytest.approx(np.exp(0.09))


def test_noise_is_pooled_within_cells_and_studies():
    pairs = [a_pair([0, 0.02], [5, 5]), a_pair([1], [3, 3, 3.03])]
    squares = 2 * 0.01**2 + 0 + 0 + 2 * 0.01**2 + 0.02**2
    assert noise(pairs) == pytest.approx(100 * np.expm1(np.sqrt(squares / 4)))
    assert noise([a_pair([0], [1])]) is None


def test_two_studies_of_the_same_thing_rarely_show_a_regression():
    generator = np.random.default_rng(0)
    alarms = found = 0
    for _ in range(400):
        pairs = [a_pair(*generator.normal(0, 0.02, (2, 5))) for _ in range(6)]
        result = judge(pairs, margin=0.0, alpha=0.05, floor=0)
        found += any(each.p <= 0.05 for each in result)
        alarms += any(each.verdict == "regression" for each in result)
    assert 0.02 < found / 400 < 0.08
    assert alarms < found


def test_many_cells_at_the_margin_seldom_have_a_false_regression():
    """100 comparisons of 8 cells; 0.05 and 0.95 within four standard errors."""
    generator, shift = np.random.default_rng(9), -np.log(0.98)
    false = held = alone = 0
    for _ in range(100):
        pairs = [
            a_pair(generator.normal(0, 0.01, 6), generator.normal(shift, 0.01, 6)) for _ in range(8)
        ]
        found = judge(pairs, margin=0.02, alpha=0.05, floor=0)
        truth = np.exp(shift)
        false += any(cell.verdict == "regression" for cell in found)
        held += all(cell.joint_low <= truth + 1e-9 <= cell.joint_high + 1e-9 for cell in found)
        alone += any(cell.low > truth and cell.p <= 0.05 for cell in found)
    assert false / 100 < 0.14
    assert held / 100 > 0.86
    assert alone > false


def test_a_regression_has_a_simultaneous_interval_beyond_the_margin():
    first, *_ = judge([scattered(0.05), *[scattered(0.0)] * 7], margin=0.02, alpha=0.05, floor=0)
    assert (first.verdict, first.p_margin <= 0.05) == ("regression", True)
    assert 1 / 0.98 - 1e-12 <= first.joint_low < first.low
