from __future__ import annotations

import dataclasses

import pytest

from slm_energy.config.groups import LoadConfig, MeasurementConfig
from slm_energy.derive import metrics
from slm_energy.record import Capture, SamplerReport, Series, WarmUp, Window
from tests.captures import (
    S,
    a_capture,
    a_counter,
    a_flat_gauge,
    a_gauge,
    a_generation,
    a_reference,
    without,
)

MEASUREMENT = MeasurementConfig(name="test")


def derived(capture: Capture) -> dict[str, float]:
    return metrics.derive(capture, metrics.energy_figures(capture, MEASUREMENT), LoadConfig())


def test_latency_follows_its_definitions() -> None:
    values = derived(a_capture())
    assert values["latency/ttft_p50_s"] == pytest.approx(0.4)
    assert values["latency/itl_p95_s"] == pytest.approx(0.2)
    assert values["latency/tpot_mean_s"] == pytest.approx(0.2)
    assert values["latency/e2e_p50_s"] == pytest.approx(1.0)
    assert values["throughput/output_tokens_per_s"] == pytest.approx(16 / 4)
    assert values["tokens/input"] == 20
    assert values["tokens/passes"] == 2


@pytest.mark.parametrize("tokens", [None, ()], ids=["no answers", "answers without tokens"])
def test_nothing_is_told_per_token_where_there_are_none(tokens: tuple[int, ...] | None) -> None:
    empty = a_generation("a", 0, 4 * S, output_ids=tokens, token_ns=tokens)
    values = derived(a_capture(generations=() if tokens is None else (empty,)))
    assert values["time/serve_s"] == 4
    assert not [name for name in values if "per_output_token" in name or "latency" in name]


def test_joules_of_a_constant_power_are_exact_in_every_window() -> None:
    values = derived(a_capture())
    assert values["energy/total_j"] == pytest.approx(40)
    assert values["energy/cpu_package_j"] == pytest.approx(40)
    assert values["energy/load_total_j"] == pytest.approx(10)
    assert values["energy/per_output_token_j"] == pytest.approx(40 / 16)
    assert values["energy/per_request_j"] == pytest.approx(10)
    assert values["energy/total_low_j"] <= 40 <= values["energy/total_high_j"]


def test_net_energy_takes_the_baseline_off_and_widens_the_interval() -> None:
    values = derived(a_capture())
    assert values["energy/net_total_j"] == pytest.approx(0, abs=1e-9)
    gross = values["energy/total_high_j"] - values["energy/total_low_j"]
    assert values["energy/net_total_high_j"] - values["energy/net_total_low_j"] > gross
    assert "energy/net_total_j" not in derived(without(a_capture(), "baseline"))


def test_the_interval_of_a_request_shrinks_with_the_window_that_repeats_it() -> None:
    """The counter's uncertainty at the two edges is the same however long the window is."""

    def width(passes: int) -> float:
        end_ns = 1 * S + 2 * S * passes
        serve = Window(name="serve", start_ns=1 * S, end_ns=end_ns, passes=passes)
        requests = [
            a_generation(task, number, 1 * S + 2 * S * number + at * S)
            for number in range(passes)
            for at, task in enumerate("ab")
        ]
        values = derived(a_capture(windows=(serve,), generations=tuple(requests)))
        return values["energy/per_request_high_j"] - values["energy/per_request_low_j"]

    assert width(4) == pytest.approx(width(1) / 4, rel=0.2)


def test_net_energy_carries_the_unsteadiness_of_the_baseline() -> None:
    """10 W in serving, 2 or 6 W in turns, 0.4 s each, in the 2 s of the baseline before."""
    power_w = [6 if t < 40 and t // 4 % 2 else 2 if t < 40 else 10 for t in range(100)]
    raw = tuple(round(sum(power_w[:t]) * 1e5) for t in range(100))
    times = tuple(t * S // 10 for t in range(100))
    bursty = dataclasses.replace(a_counter(), before_ns=times, raw=raw, after_ns=times)
    values = derived(a_capture(series=(bursty,)))
    steady = derived(a_capture())
    widths = [
        found["energy/net_total_high_j"] - found["energy/net_total_low_j"]
        for found in (values, steady)
    ]
    assert values["energy/net_total_j"] == pytest.approx(40 - 4 * 4, abs=2)
    assert values["energy/net_total_low_j"] < 40 - 4 * 6
    assert widths[0] > 3 * widths[1]


def test_a_baseline_too_short_for_its_unsteadiness_leaves_the_net_interval_unknown() -> None:
    capture = a_capture()
    short = Window(name="baseline", start_ns=3 * S, end_ns=3 * S + S // 2)
    windows = tuple(short if w.name == "baseline" else w for w in capture.windows)
    values = derived(dataclasses.replace(capture, windows=windows))
    assert values["energy/net_total_j"] == pytest.approx(0, abs=0.1)
    assert not [name for name in values if name.startswith("energy/net_total_low")]


def test_gain_widens_a_second_interval_and_cancels_from_what_is_subtracted() -> None:
    values = derived(a_capture())
    for name in ("total", "per_output_token", "cpu_package", "baseline_total"):
        value = values[f"energy/{name}_j"]
        low, high = (values[f"energy/{name}_{end}_with_gain_j"] for end in ("low", "high"))
        assert low == pytest.approx(0.95 * values[f"energy/{name}_low_j"])
        assert high == pytest.approx(1.05 * values[f"energy/{name}_high_j"])
        assert low < value < high
    # Serving and idle draw the same 10 W: 5 % of nothing is left, not 5 % of 40 J twice.
    width_j = values["energy/net_total_high_j"] - values["energy/net_total_low_j"]
    more_j = values["energy/net_total_high_with_gain_j"] - values["energy/net_total_high_j"]
    assert 0 <= more_j < 0.06 * width_j


def test_without_a_known_gain_there_is_no_second_interval() -> None:
    series = a_counter()
    source = dataclasses.replace(series.source, gain_pct=0.0)
    values = derived(a_capture(series=(dataclasses.replace(series, source=source),)))
    assert "energy/total_low_j" in values
    assert not [name for name in values if "with_gain" in name]


def test_prefill_has_a_window_of_its_own_and_decoding_is_the_rest() -> None:
    """One pass of prefill, 0.5 s at 10 W: 2.5 J a request. Serving 2 passes took 40 J."""
    capture = a_capture()
    half_s = Window(name="prefill", start_ns=3 * S, end_ns=3 * S + S // 2, passes=1)
    values = derived(dataclasses.replace(capture, windows=(*capture.windows, half_s)))
    assert values["energy/prefill_per_request_j"] == pytest.approx(5 / 2)
    assert values["energy/decode_per_output_token_j"] == pytest.approx((40 - 2 * 5) / (16 - 4))
    low, high = (values[f"energy/decode_per_output_token_{end}_j"] for end in ("low", "high"))
    assert low < values["energy/decode_per_output_token_j"] < high
    assert "energy/decode_per_output_token_j" not in derived(a_capture())


def test_a_temperature_is_told_at_the_start_too() -> None:
    gauge = a_gauge()
    source = dataclasses.replace(gauge.source, id="cpu_temperature_celsius", unit="C")
    values = derived(a_capture(series=(dataclasses.replace(gauge, source=source),)))
    assert values["thermal/cpu_start_c"] == 25
    assert values["thermal/cpu_mean_c"] == 75


def test_what_the_sampler_took_is_told() -> None:
    values = derived(a_capture())
    assert values["sampler/cpu_pct"] == pytest.approx(0.1)
    dead = SamplerReport(period_s=0.1, cpu_s=None, wall_s=None, finished=False)
    assert "sampler/cpu_pct" not in derived(a_capture(sampler=dead))


def test_how_the_warm_up_went_is_told() -> None:
    values = derived(a_capture(warmup=WarmUp(paces_ns=(3, 2, 2), steady=True)))
    assert (values["warmup/batches"], values["warmup/steady"]) == (3, 1)


def test_an_estimate_has_its_own_names_and_meets_no_measurement() -> None:
    only_estimate = derived(a_capture(series=(a_counter("estimate"),)))
    assert only_estimate["energy_estimated/total_j"] == pytest.approx(40)
    assert not [name for name in only_estimate if name.startswith("energy/")]
    both = derived(a_capture(series=(a_counter(), a_counter("estimate"))))
    assert both["energy/total_j"] == both["energy_estimated/total_j"] == pytest.approx(40)


def test_what_is_unknown_is_absent() -> None:
    unread = a_counter()
    unread = dataclasses.replace(unread, raw=tuple(None for _ in unread.raw))
    values = derived(a_capture(series=(unread,)))
    assert not [name for name in values if "energy" in name]
    assert not [name for name in values if name.startswith(("utilization/", "memory/"))]
    assert "latency/ttft_p50_s" not in derived(without(a_capture(), "serve"))


def test_two_sockets_are_added_and_an_unreadable_one_voids_the_sum() -> None:
    one = a_counter()
    other = dataclasses.replace(one, source=dataclasses.replace(one.source, id="fake/package-1"))
    assert derived(a_capture(series=(one, other)))["energy/cpu_package_j"] == pytest.approx(80)
    unread = dataclasses.replace(other, raw=tuple(None for _ in other.raw))
    values = derived(a_capture(series=(one, unread)))
    assert "energy/cpu_package_j" not in values
    assert "energy/total_j" not in values


def test_agreement_with_the_reference_is_a_metric_where_it_is_known() -> None:
    capture = a_capture()
    known = dataclasses.replace(capture, reference=a_reference(capture.generations))
    assert derived(known)["quality/agreement"] == 1
    assert derived(known)["quality/agreeing_tokens"] == 1
    assert not [name for name in derived(capture) if name.startswith("quality/")]


def test_gauges_are_summarised_over_the_serve_window() -> None:
    values = derived(a_capture(series=(a_gauge(),)))
    assert values["utilization/cpu_mean_pct"] == pytest.approx(75)
    assert values["utilization/cpu_peak_pct"] == pytest.approx(75)


@pytest.mark.parametrize(("share", "expected"), [(0, 1.0), (0.5, 2.5), (0.95, 3.85), (1, 4.0)])
def test_quantiles_interpolate(share: float, expected: float) -> None:
    assert metrics.quantile([1.0, 2.0, 3.0, 4.0], share) == pytest.approx(expected)


def test_gpus_of_two_vendors_have_metrics_of_their_own() -> None:
    """And those of one vendor alone keep the names that stores have had."""
    nvidia = [a_flat_gauge(f"gpu_{n}_utilization_percentage", 10.0 + n) for n in (0, 1)]
    amd = [a_flat_gauge(f"amdgpu_{n}_utilization_percentage", 20.0 + n) for n in (0, 1)]

    def means(*gauges: Series) -> dict[str, float]:
        values = derived(a_capture(series=(a_counter(), *gauges)))
        return {name: values[name] for name in values if name.endswith("_mean_pct")}

    both = {
        "utilization/gpu_mean_pct": 10,
        "utilization/gpu1_mean_pct": 11,
        "utilization/gpu_amd_mean_pct": 20,
        "utilization/gpu_amd_1_mean_pct": 21,
    }
    assert means(*nvidia, *amd) == means(*amd, *nvidia) == both
    assert means(*nvidia) == {"utilization/gpu_mean_pct": 10, "utilization/gpu1_mean_pct": 11}
    assert means(*amd) == {"utilization/gpu_mean_pct": 20, "utilization/gpu1_mean_pct": 21}
