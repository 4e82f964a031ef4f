"""Loads: cells are compared at equal load; curves, knee, promise and order over loads."""

import json

import numpy as np
import pandas as pd
import pytest

from slm_energy.analysis import build, options
from slm_energy.analysis.recommend import recommend
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.result.under_load import LoadCurve, LoadFamily
from slm_energy.serialization import from_plain
from tests.analysis.conftest import make_loads

SERVERS = {"slow": (20.0, 20.0, 0.2), "fast": (40.0, 10.0, 0.1)}
"""Joules per request: 20 / rate + 20 of slow, 40 / rate + 10 of fast, equal at 2 per second."""
RATES = (0.5, 1.0, 4.0, 8.0)


def report(frame: pd.DataFrame, **keys: object) -> Report:
    return build(frame, options({"study": "toy", "draws": 999, **keys}))


def family(frame: pd.DataFrame, **keys: object) -> LoadFamily:
    result = report(frame, **keys)
    assert result.failures == ()
    assert result.under_load is not None
    [found] = result.under_load.families
    return found


def curve(found: LoadFamily, name: str) -> LoadCurve:
    return next(each for each in found.curves if each.name == name)


def test_cells_are_compared_at_equal_load_only() -> None:
    result = report(make_loads(SERVERS, RATES))
    for metric in result.metrics:
        names = [each.name for each in metric.families]
        assert names == ["rate=0.5", "rate=1.0", "rate=4.0", "rate=8.0"]
        for each in metric.families:
            assert [{pair.a.split("-")[1], pair.b.split("-")[1]} for pair in each.pairs] == [
                {f"{float(each.name.removeprefix('rate=')):g}"}
            ]
    assert result.pareto == ()
    assert any("models in general, trade-offs" in note for note in result.notes)
    assert [factor.name for factor in result.factors] == ["engine", "load.rate"]
    assert "within the same model and load" in " ".join(result.methods)
    assert {result.short_label(cell.id) for cell in result.cells} == {"slow", "fast"}


def test_families_without_models_are_those_of_equal_load_too() -> None:
    result = report(make_loads(SERVERS, RATES), families=[])
    assert {each.name for each in result.metrics[0].families} == {f"rate={rate}" for rate in RATES}


def test_a_reference_is_named_without_its_load() -> None:
    result = report(make_loads(SERVERS, RATES), reference="slow")
    assert all(each.named for each in result.metrics[0].families)


def test_one_load_changes_nothing() -> None:
    result = report(make_loads(SERVERS, (8.0,)))
    assert result.under_load is None
    assert [each.name for each in result.metrics[0].families] == [""]
    assert json.loads(result.to_json())["under_load"] is None
    assert any(note.startswith("Saturated: slow (in 5 trials)") for note in result.notes)


def test_a_study_without_loads_has_none(study) -> None:
    assert report(study({"torch/cpu": 0.03, "onnx/cpu": 0.02})).under_load is None


def test_batches_are_no_load_of_a_curve() -> None:
    frame = make_loads(SERVERS, (1.0, 4.0))
    batches = frame[frame["load.rate"] == "1.0"].copy()
    batches["cell"] = batches["cell"] + "-batch"
    batches[[name for name in frame if name.startswith("load.")]] = np.nan
    result = report(pd.concat([frame, batches], ignore_index=True))
    names = {each.name for each in result.metrics[0].families}
    assert names == {"load=batch", "load=open / rate=1.0", "load=open / rate=4.0"}
    assert result.under_load is not None
    [found] = result.under_load.families
    assert [[point.level for point in each.points] for each in found.curves] == [[1.0, 4.0]] * 2


def test_points_are_the_energy_of_their_load() -> None:
    found = family(make_loads(SERVERS, RATES, rounds=8))
    for name, (idle_w, own_j, served_s) in SERVERS.items():
        for point in curve(found, name).points:
            truth = idle_w / min(point.level, 1 / served_s) + own_j
            assert point.energy.value == pytest.approx(truth, rel=0.03)
            assert point.energy.low is not None
            assert point.energy.high is not None
            assert point.energy.low < point.energy.value < point.energy.high
            assert point.trials == 8
    assert [p.saturated for p in curve(found, "slow").points] == [0, 0, 0, 8]
    assert [p.saturated for p in curve(found, "fast").points] == [0, 0, 0, 0]


def test_the_cheapest_load_keeps_the_promise_and_is_not_saturated() -> None:
    unlimited = family(make_loads(SERVERS, RATES))
    assert (curve(unlimited, "slow").cheapest, curve(unlimited, "fast").cheapest) == (4.0, 8.0)
    assert unlimited.latencies == ("latency/ttft_p95_s", "latency/e2e_p95_s")
    assert "No promise is set (load.slo)." in unlimited.sentences[0]
    limited = family(make_loads(SERVERS, RATES, slo_s=0.4))
    assert limited.limits == {"latency/e2e_p95_s": (0.4,)}
    assert limited.latencies == ("latency/e2e_p95_s",)
    assert (curve(limited, "slow").cheapest, curve(limited, "fast").cheapest) == (1.0, 4.0)
    assert [p.promise for p in curve(limited, "fast").points] == ["kept"] * 3 + ["broken"]
    best = curve(limited, "fast").best
    assert best is not None
    assert limited.sentences[0].startswith(
        f"Least energy per request at a load that keeps load.slo: fast {best.energy.value:.1f} J"
        f" (95 % interval {best.energy.low:.1f} to {best.energy.high:.1f}) at 4 requests/s; slow "
    )
    assert (
        "Saturated, from this load on: slow at 8 requests/s (5 of 5 trials)." in limited.sentences
    )


def test_no_load_may_keep_the_promise() -> None:
    found = family(make_loads(SERVERS, RATES, slo_s=0.001))
    assert found.sentences[0] == (
        "No load that was measured keeps load.slo, with any configuration."
    )
    partly = family(make_loads(SERVERS, RATES, slo_s=0.15))
    assert partly.sentences[0].endswith("At no load: slow.")


def test_a_promise_that_some_rounds_break_is_not_certain() -> None:
    frame = make_loads({"fast": SERVERS["fast"]}, (1.0, 4.0), slo_s=0.4)
    four = frame["load.rate"] == "4.0"
    frame.loc[four, "load/good_share"] = [0.99, 0.90, 0.97, 0.93, 0.98]
    found = family(frame)
    [own] = found.curves
    assert [point.promise for point in own.points] == ["kept", "uncertain"]
    assert own.cheapest == 1.0
    text = "Cheaper, but not certain to have 95 % good requests: fast / cpu at 4 requests/s (95 %"
    assert any(line.startswith(text) for line in found.sentences)


def test_refused_requests_are_not_good_where_nothing_is_promised() -> None:
    frame = make_loads({"fast": SERVERS["fast"]}, (1.0, 4.0))
    frame.loc[frame["load.rate"] == "4.0", "load/refused_count"] = 60.0  # of 240
    [own] = family(frame).curves
    good = own.points[1].good
    assert good is not None
    assert good.value == pytest.approx(0.75)
    assert own.cheapest == 1.0


def test_the_knee_is_that_of_theory_with_its_rounds() -> None:
    frame = make_loads({"fast": SERVERS["fast"]}, (2.0, 4.0, 6.0, 8.0, 9.5, 12.0))
    [own] = family(frame).curves
    assert own.knee is not None
    assert (own.knee.level, own.knee.end) == (6.0, "")  # 5.86: M/D/1 with a capacity of 10
    assert (own.knee.rounds, own.knee.same) == (5, 5)
    low, high = (
        family(make_loads({"fast": SERVERS["fast"]}, rates)).curves[0].knee
        for rates in ((1.0, 2.0, 4.0), (7.0, 8.0, 9.0))
    )
    assert low is not None
    assert high is not None
    assert (low.level, low.end, high.level, high.end) == (4.0, "highest", 7.0, "lowest")
    assert family(make_loads(SERVERS, (1.0, 2.0))).curves[0].knee is None


def test_the_sentences_say_where_the_order_changes() -> None:
    found = family(make_loads(SERVERS, (0.5, 1.0, 2.0, 4.0, 4.5, 8.0)))
    [order] = found.orders
    assert order.changes
    assert [pair.verdict for pair in order.pairs][-1] is None  # slow is saturated
    saved = [1 - (20 / r + 20) / (40 / r + 10) for r in (0.5, 1.0)]
    line = found.sentences[-1]
    assert line.startswith("Up to 1 request/s, slow costs less energy per request than fast (")
    assert "; at 2 requests/s, no verdict separates the two; from 4 requests/s on, fast" in line
    span = line.partition("(")[2].partition(" %")[0].split(" to ")
    assert [float(end) for end in span] == pytest.approx(sorted(100 * s for s in saved), abs=2.5)


def test_an_order_that_stays_is_one_sentence() -> None:
    servers = {"a": (20.0, 10.0, 0.1), "b": (40.0, 20.0, 0.1)}
    found = family(make_loads(servers, (1.0, 4.0)))
    assert not found.orders[0].changes
    assert found.sentences[-1] == (
        "From 1 to 4 requests/s, a costs less energy per request than b (50 %)."
    )


def test_of_many_pairs_only_those_that_change_are_stated() -> None:
    servers = SERVERS | {"dear": (80.0, 40.0, 0.1), "dearer": (120.0, 60.0, 0.1)}
    found = family(make_loads(servers, (0.5, 4.0)))
    changing = [order for order in found.orders if order.changes]
    assert [(order.a, order.b) for order in changing] in ([("slow", "fast")], [("fast", "slow")])
    assert found.sentences[-1] == (
        "No verdicts at different loads contradict each other in 5 pairs of configurations."
    )


def test_clients_of_a_closed_loop_are_a_load() -> None:
    found = family(make_loads(SERVERS, (1, 4, 8), key="load.clients"))
    assert found.key == "load.clients"
    assert "at 8 clients" in found.sentences[0]
    assert [point.level for point in found.curves[0].points] == [1, 4, 8]


def test_each_model_and_each_kind_of_energy_has_its_own_curves() -> None:
    measured = make_loads(SERVERS, (1.0, 4.0)).assign(**{"model.name": "large"})
    measured["cell"] = "large-" + measured["cell"]
    estimated = make_loads(SERVERS, (1.0, 4.0), kind="energy_estimated")
    result = report(pd.concat([measured, estimated], ignore_index=True))
    assert result.under_load is not None
    assert [(each.name, each.metric.name) for each in result.under_load.families] == [
        ("large", "energy/per_request_j"),
        ("bundled", "energy_estimated/per_request_j"),
    ]
    assert "(estimated)" in result.under_load.families[1].sentences[0]
    assert [each.name for each in result.metrics[0].families] == [
        "large / rate=1.0",
        "large / rate=4.0",
    ]


def test_other_settings_make_other_configurations() -> None:
    frame = make_loads({"fast": SERVERS["fast"]}, (1.0, 4.0))
    other = frame.assign(**{"engine.dtype": "int8"})
    other["cell"] = "int8-" + other["cell"]
    frame["engine.dtype"] = "float32"
    found = family(pd.concat([frame, other], ignore_index=True))
    names = {each.name for each in found.curves}
    assert names == {"fast / cpu / dtype=float32", "fast / cpu / dtype=int8"}


def test_loads_share_alpha_with_the_study_where_that_is_asked() -> None:
    frame = make_loads(SERVERS, (1.0, 4.0))
    alone, shared = (family(frame, adjust=each).orders[0].pairs[0] for each in ("family", "study"))
    assert alone.ratio == shared.ratio
    assert alone.low is not None
    assert shared.low is not None
    assert shared.low < alone.low


def test_a_recommendation_is_for_one_load() -> None:
    result = report(make_loads(SERVERS, (0.5, 4.0)))
    made = recommend(result, {}, {})
    assert [(each.family, result.short_label(each.eligible[0].cell)) for each in made] == [
        ("rate=0.5", "slow"),
        ("rate=4.0", "fast"),
    ]


def test_the_result_survives_json() -> None:
    result = report(make_loads(SERVERS, RATES, slo_s=0.4))
    read = from_plain(Report, json.loads(result.to_json()))
    assert read.under_load == result.under_load


def test_a_metered_load_without_joules_has_no_curve() -> None:
    frame = make_loads(SERVERS, (1.0, 4.0))
    frame = frame.drop(columns=[name for name in frame if name.startswith("energy/")])
    result = report(frame, metrics=["latency/e2e_p50_s"])
    assert result.under_load is not None
    assert result.under_load.families == ()


def test_several_machines_have_no_curve_and_are_compared_at_equal_load() -> None:
    frames = [make_loads(SERVERS, (1.0, 4.0), seed=n).assign(machine=f"lab-{n}") for n in (1, 2)]
    frame = pd.concat(frames, ignore_index=True)
    for name in ("per_request", "per_output_token"):
        for end, factor in (("low", 0.99), ("high", 1.01)):
            frame[f"energy/{name}_{end}_with_gain_j"] = frame[f"energy/{name}_j"] * factor
    result = report(frame, machine="lab-1,lab-2")
    assert result.under_load is not None
    assert result.under_load.families == ()
    assert {each.family for each in result.across} == {"rate=1.0", "rate=4.0"}


def test_a_study_of_one_round_has_points_without_intervals() -> None:
    found = family(make_loads(SERVERS, (1.0, 4.0), rounds=1))
    assert all(point.energy.low is None for each in found.curves for point in each.points)
    assert "interval" not in found.sentences[0]
