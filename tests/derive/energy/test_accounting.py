"""One figure per source and window; totals over them; gauges."""

from dataclasses import replace

import pytest

from slm_energy.derive.energy.accounting import summarise, total
from slm_energy.record import EnergyFigure, Window
from slm_energy.testing.waveform import constant, stairs
from tests.derive.energy.conftest import (
    BUSY,
    COUNTER,
    GAUGE,
    MS,
    WINDOW,
    S,
    counted,
    powered,
    refused,
    series,
    serve,
    span,
    times,
)


def test_an_empty_window_is_refused():
    window = Window(name="serve", start_ns=S, end_ns=S)
    reason = refused(serve(counted(constant(50), times()), window))
    assert reason == "empty window: it ends before it begins"


def test_the_pedigree_names_the_source():
    source = replace(COUNTER, device="package-0", path="/sys/energy_uj")
    pedigree = serve(counted(constant(50), times(), source)).pedigree
    assert pedigree["device"] == "package-0"
    assert pedigree["path"] == "/sys/energy_uj"
    assert pedigree["update_period_s"] == 0.001
    assert pedigree["readings"] == 52
    assert pedigree["coverage"] == 1
    assert pedigree["largest_gap_s"] == 0.1


def test_an_estimate_keeps_its_kind_and_says_what_it_is():
    source = replace(COUNTER, kind="estimate", modulus=None, max_power_w=None, summed=False)
    figure = serve(counted(constant(28), times(500 * MS), source))
    assert figure.kind == "estimate"
    assert figure.joules == pytest.approx(28 * WINDOW.duration_s)
    assert "not the model's own error" in figure.flags[0]


def test_an_estimate_is_exact_at_its_readings():
    source = replace(
        COUNTER, kind="estimate", modulus=None, update_period_ns=None, max_power_w=None
    )
    figure = serve(counted(BUSY, times(), source), span(S, 6 * S))
    assert figure.joules == BUSY.joules(S, 6 * S)
    assert figure.flags == (
        "a model's estimate: the interval covers sampling, not the model's own error",
    )


def test_stamps_that_go_back_are_a_clock_step():
    whole = counted(constant(50), times())
    back = tuple(t - 2 * S if t >= 4 * S else t for t in whole.before_ns)
    reason = refused(serve(replace(whole, before_ns=back, after_ns=back)))
    assert reason == "clock step: time stamps went back by 1.9 s"


def test_a_figure_names_its_source_and_window():
    for figure in (serve(counted(constant(50), times())), serve(series(COUNTER, [], []))):
        named = (figure.source_id, figure.domain, figure.kind, figure.window, figure.summed)
        assert named == ("rapl/0", "cpu_package", "counter", "serve", True)


def test_a_pause_before_the_window_does_not_matter():
    at = [t for t in times(until_ns=20 * S) if not 2 * S < t < 9 * S]
    window = span(11 * S, 15 * S)
    assert serve(counted(constant(50), at), window).joules == 200.0
    assert serve(powered(constant(50), at), window).joules == 200.0


def test_a_pause_after_the_bracket_does_not_matter():
    at = [*times(until_ns=6200 * MS), *range(9 * S, 12 * S, 100 * MS)]
    window = span(S, 6050 * MS)
    assert serve(counted(constant(50), at), window).joules == 252.5
    assert serve(powered(constant(50), at), window).joules == 252.5


def test_the_first_readings_of_all_tell_power_too():
    source = replace(COUNTER, update_period_ns=0)
    curve = stairs([(0, 50_000), (130 * MS, 500_000)])
    window = span(120 * MS, 6 * S)
    figure = serve(counted(curve, times(), source), window)
    assert figure.joules == curve.joules(window.start_ns, window.end_ns)
    power = serve(powered(curve, times()), span(50 * MS, 6 * S))
    assert power.pedigree["edge_start_j"] == 0
    power = serve(powered(stairs([(0, 50_000), (30 * MS, 90_000)]), times()), span(50 * MS, 6 * S))
    assert power.pedigree["edge_start_j"] == pytest.approx(2 * 40 * 0.05)


def figure(source_id, joules, kind="counter", summed=True, window="serve", reasons=(), flags=()):
    return EnergyFigure(
        source_id=source_id,
        domain=source_id,
        kind=kind,
        window=window,
        joules=joules,
        low_j=None if joules is None else joules - 1,
        high_j=None if joules is None else joules + 2,
        summed=summed,
        reasons=reasons,
        flags=flags,
    )


def test_the_total_adds_figures_and_intervals():
    all_of_it = total(
        [figure("cpu_package", 10.0), figure("gpu", 20.0, kind="power", flags=("hot",))]
    )
    assert (all_of_it.low_j, all_of_it.joules, all_of_it.high_j) == (28.0, 30.0, 34.0)
    assert all_of_it == EnergyFigure(
        source_id="total",
        domain="total",
        kind="power",
        window="serve",
        joules=30.0,
        low_j=28.0,
        high_j=34.0,
        summed=False,
        flags=("gpu: hot",),
        pedigree={"sources": ["cpu_package", "gpu"], "domains": ["cpu_package", "gpu"]},
    )
    assert total([figure("cpu_package", 10.0)]).kind == "counter"


def test_a_sum_without_processors_is_not_called_the_total():
    assert total([figure("gpu", 10.0)]).domain == "sum"
    assert total([figure("gpu", 10.0), figure("dram", 1.0)]).domain == "sum"
    for domain in ("cpu_package", "psys", "machine", "wall"):
        assert total([figure(domain, 10.0), figure("gpu", 1.0)]).domain == "total"


def test_the_total_leaves_out_what_is_not_in_the_cut_and_estimates():
    parts = [
        figure("package", 10.0),
        figure("core", 5.0, summed=False),
        figure("guess", 99.0, kind="estimate"),
    ]
    assert total(parts).joules == 10.0


def test_one_unknown_member_makes_the_total_unknown():
    reason = refused(total([figure("a", 10.0), figure("b", None, reasons=("frozen",))]))
    assert reason == "b: frozen"


def test_there_is_no_total_of_nothing():
    assert total([figure("guess", 99.0, kind="estimate")]) is None


def test_figures_of_two_windows_have_no_total():
    with pytest.raises(ValueError, match=r"^a total is over one window$"):
        total([figure("a", 1.0), figure("b", 1.0, window="baseline")])


def test_nothing_joules_are_counted_as_nothing_in_a_total():
    assert total([figure("a", 0.0), figure("b", 1.0)]).joules == 1.0
    assert total([figure("a", 1.0), figure("b", 1.0)]).low_j == 0.0
    assert total([figure("a", -2.0)]).high_j == 0.0


def test_a_gauge_has_mean_and_extremes_of_the_readings_inside():
    readings = series(GAUGE, [0, 2 * S, 3 * S, 4 * S, 7 * S], [900.0, 10.0, None, 30.0, 900.0])
    gauge = summarise(readings, WINDOW)
    assert (gauge.mean, gauge.minimum, gauge.maximum, gauge.readings) == (20.0, 10.0, 30.0, 2)


def test_a_gauge_counts_up_to_both_edges():
    readings = series(GAUGE, [WINDOW.start_ns, WINDOW.end_ns], [10.0, 30.0])
    assert summarise(readings, WINDOW).readings == 2


def test_a_gauge_without_readings_is_unknown():
    assert summarise(series(GAUGE, [0], [900.0]), WINDOW) is None


def test_a_gauge_has_no_joules():
    with pytest.raises(ValueError, match="is a gauge"):
        serve(series(GAUGE, times(), [1 for _ in times()]))
