from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from slm_energy.cell import Trial
from slm_energy.config.groups import (
    LimitsConfig,
    LoadConfig,
    MeasurementConfig,
    ProviderConfig,
    RunConfig,
    WallMeterConfig,
)
from slm_energy.derive import checks, metrics
from slm_energy.record import Capture, CheckResult, SamplerReport, WarmUp
from slm_energy.serialization import Json
from tests.captures import (
    S,
    a_capture,
    a_counter,
    a_flat_gauge,
    a_gauge,
    a_reference,
    without,
)
from tests.conftest import a_cell, a_trial

PLAIN = MeasurementConfig(name="test")


def failing(config: RunConfig, capture: Capture, **measurement: Any) -> dict[str, str]:
    """Names and details of the expectations that a capture breaks."""
    chosen = MeasurementConfig(name="test", **measurement)
    trial = a_trial(config, cell=a_cell(config, measurement=chosen))
    results = checks.run(trial, capture, metrics.energy_figures(capture, chosen))
    return {result.name: result.detail for result in results if result.passed is False}


def test_a_sound_capture_breaks_none(config: RunConfig) -> None:
    assert failing(config, a_capture()) == {}


@pytest.mark.parametrize(
    ("setting", "value"),
    [("provider", "cuda"), ("dtype", "float16"), ("kv_cache", False), ("decode", "generate")],
)
def test_a_setting_that_is_not_in_force_is_named(
    config: RunConfig, setting: str, value: Any
) -> None:
    capture = a_capture()
    capture = dataclasses.replace(capture, effective={**capture.effective, setting: value})
    assert setting in failing(config, capture)["settings_in_force"]


def test_a_server_that_computes_with_other_threads_than_it_was_given_is_invalid(
    config: RunConfig,
) -> None:
    capture = a_capture(effective=a_capture().effective | {"threads_requested": 3})
    assert failing(config, capture)["settings_in_force"] == "threads is 2, requested was 3"


@pytest.mark.parametrize(
    ("loaded", "reason"),
    [
        ({"torch": "2.13.0"}, None),
        ({"torch": "2.14.0"}, "torch was 2.13.0 when the sweep began and is now 2.14.0"),
        ({}, "torch was 2.13.0 when the sweep began and is now absent"),
    ],
)
def test_a_package_that_was_replaced_during_the_sweep_makes_a_trial_invalid(
    config: RunConfig, loaded: dict[str, str], reason: str | None
) -> None:
    cell = dataclasses.replace(a_cell(config), versions={"python": "3.11.2", "torch": "2.13.0"})
    capture = a_capture(environment={"python": "3.11", "versions": loaded})
    energy = metrics.energy_figures(capture, cell.settings.measurement)
    results = {r.name: r for r in checks.run(a_trial(config, cell=cell), capture, energy)}
    assert results["versions"].passed is (reason is None)
    assert (reason or "2 versions as planned") in results["versions"].detail


def test_a_trial_must_be_isolated_as_asked(config: RunConfig) -> None:
    measurement = MeasurementConfig(name="test", isolation="forkserver")
    trial = a_trial(config, cell=a_cell(config, measurement=measurement))
    spawned = a_capture()
    results = checks.run(trial, spawned, metrics.energy_figures(spawned, measurement))
    assert [r.detail for r in results if r.passed is False] == [
        "isolation is spawn, requested was forkserver"
    ]


def test_an_asked_attention_must_be_in_force_and_auto_asks_for_none(config: RunConfig) -> None:
    capture = a_capture()
    capture = dataclasses.replace(capture, effective=capture.effective | {"attention": "sdpa"})
    assert failing(config, capture) == {}
    model = dataclasses.replace(config.model, attention="eager")
    measurement = MeasurementConfig(name="test")
    trial = a_trial(config, cell=a_cell(config, model=model, measurement=measurement))
    results = checks.run(trial, capture, metrics.energy_figures(capture, measurement))
    assert [r.detail for r in results if r.passed is False] == [
        "attention is sdpa, requested was eager"
    ]


def test_less_work_in_one_pass_is_caught(config: RunConfig) -> None:
    capture = a_capture()
    capture = dataclasses.replace(capture, generations=capture.generations[:-1])
    assert failing(config, capture) == {"whole_workload": "pass 1 served 1 requests, the first 2"}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"output_ids": (1, 2, 3)}, "token_counts"),
        ({"output_ids": (1, 2, 3), "token_ns": (1, 2, 3)}, "token_counts"),
        ({"output_ids": (1, 2, 3, 9)}, "same_outputs"),
        ({"token_ns": (7, 6, 5, 4)}, "time_stamps"),
    ],
)
def test_a_wrong_answer_is_caught(config: RunConfig, changes: dict[str, Any], name: str) -> None:
    capture = a_capture()
    last = dataclasses.replace(capture.generations[-1], **changes)
    capture = dataclasses.replace(capture, generations=(*capture.generations[:-1], last))
    assert name in failing(config, capture)


def test_other_prompts_than_the_reference_s_are_not_the_same_work(config: RunConfig) -> None:
    capture = a_capture()
    same = a_reference(capture.generations)
    assert failing(config, dataclasses.replace(capture, reference=same)) == {}
    other = a_reference(capture.generations, prompt_digest="another tokenizer's")
    assert set(failing(config, dataclasses.replace(capture, reference=other))) == {"same_prompts"}


def test_a_dead_sampler_or_no_source_makes_a_trial_invalid(config: RunConfig) -> None:
    dead = SamplerReport(period_s=0.1, cpu_s=None, wall_s=None, finished=False)
    assert set(failing(config, a_capture(sampler=dead))) == {"sampler_alive"}
    assert set(failing(config, a_capture(series=()))) == {"energy_known"}
    assert failing(config, a_capture(series=(), sampler=None), mode="off") == {}


def test_strict_does_not_take_an_estimate(config: RunConfig) -> None:
    capture = a_capture(series=(a_counter("estimate"),))
    assert failing(config, capture) == {}
    assert set(failing(config, capture, mode="strict")) == {"energy_known"}


def test_a_capture_without_serve_window_is_never_valid(config: RunConfig) -> None:
    assert "time_stamps" in failing(config, without(a_capture(), "serve"))


@pytest.mark.parametrize(
    ("gauge", "value", "check", "limit"),
    [
        ("foreign_cpu_percentage", 12.0, "alone_on_cpu", "foreign_cpu_pct"),
        ("cpu_steal_percentage", 6.0, "no_steal", "steal_pct"),
        ("cpu_throttled_percentage", 6.0, "cpu_not_throttled", "throttled_pct"),
        ("gpu_1_throttled", 0.5, "gpu_not_throttled", "throttled_pct"),
        ("gpu_0_foreign_processes", 1, "alone_on_gpu", "gpu_processes"),
    ],
)
def test_a_contaminated_window_voids_the_trial_and_names_the_limit(
    config: RunConfig, gauge: str, value: float, check: str, limit: str
) -> None:
    capture = a_capture(series=(a_counter(), a_flat_gauge(gauge, value)))
    found = failing(config, capture)
    assert set(found) == {check}
    assert gauge in found[check]
    assert f"measurement.limits.{limit}" in found[check]
    generous = LimitsConfig(foreign_cpu_pct=100, steal_pct=100, throttled_pct=100, gpu_processes=9)
    assert failing(config, capture, limits=generous) == {}


def test_a_disturbed_trial_names_who_disturbed_it_and_what_to_do(config: RunConfig) -> None:
    series = (a_counter(), a_flat_gauge("foreign_cpu_percentage", 12.0))
    named = failing(config, a_capture(series=series, busiest=("make (7) 80 % of one",)))
    assert "busiest: make (7) 80 % of one: end them, or wait for them" in named["alone_on_cpu"]
    unnamed = failing(config, a_capture(series=series))
    assert "slm-energy doctor names the processes that are busy now" in unnamed["alone_on_cpu"]


def test_another_governor_in_the_serve_window_voids_the_trial(config: RunConfig) -> None:
    changed = a_gauge()
    source = dataclasses.replace(changed.source, id="cpu_governor_changes")
    at_4_s = tuple(float(value > 50) for value in changed.raw if value is not None)
    changed = dataclasses.replace(changed, source=source, raw=at_4_s)
    assert failing(config, a_capture(series=(a_counter(), changed))) == {}
    later = tuple(n + 3_000_000_000 for n in changed.before_ns)
    changed = dataclasses.replace(changed, before_ns=later, after_ns=later)
    assert set(failing(config, a_capture(series=(a_counter(), changed)))) == {"same_governor"}


def flagged(
    config: RunConfig,
    capture: Capture,
    measurement: MeasurementConfig = PLAIN,
) -> dict[str, str]:
    """Names and details of what a reader should know of a valid trial."""
    trial = a_trial(config, cell=a_cell(config, measurement=measurement))
    results = checks.run(trial, capture, metrics.energy_figures(capture, measurement))
    assert all(result.passed for result in results if result.flagged)
    return {result.name: result.detail for result in results if result.flagged}


def test_a_warm_up_that_never_settled_is_kept_as_a_flag(config: RunConfig) -> None:
    assert flagged(config, a_capture(warmup=WarmUp(paces_ns=(5, 5), steady=True))) == {}
    found = flagged(config, a_capture(warmup=WarmUp(paces_ns=(9, 5), steady=False)))
    assert "2 batches" in found["steady"]


def test_weights_that_a_model_does_not_use_are_flagged(config: RunConfig) -> None:
    def capture(unused: list[Json]) -> Capture:
        plain = a_capture()
        effective = plain.effective | {"unused_weights": unused}
        return dataclasses.replace(plain, effective=effective)

    assert flagged(config, capture([])) == {}
    found = flagged(config, capture(["model.layers.2.mlp.up_proj.weight", "score.weight"]))
    assert found["all_weights_used"].startswith("2 stored tensors have no place in the model")
    assert "for example model.layers.2.mlp.up_proj.weight" in found["all_weights_used"]


def test_tokens_that_are_not_the_reference_s_are_flagged_beyond_a_share(config: RunConfig) -> None:
    capture = a_capture()
    same = a_reference(capture.generations)
    assert flagged(config, dataclasses.replace(capture, reference=same)) == {}
    other = a_reference(capture.generations, output_ids=(1, 2, 9, 4))
    found = flagged(config, dataclasses.replace(capture, reference=other))
    assert "2 of 2 prompts differ" in found["same_tokens_as_reference"]
    generous = MeasurementConfig(name="test", limits=LimitsConfig(divergence_pct=100))
    assert flagged(config, dataclasses.replace(capture, reference=other), generous) == {}


def test_a_baseline_that_drew_more_than_serving_is_flagged(config: RunConfig) -> None:
    """Baseline from 2 s to 4 s, serving from 4 s to 8 s."""
    counter = a_counter()
    for busy, names in ((30, set()), (3, {"idle_is_idle"})):
        raw = tuple(
            10 * t // 1000 + (busy - 10) * max(0, t - 4 * S) // 1000 for t in counter.before_ns
        )
        capture = a_capture(series=(dataclasses.replace(counter, raw=raw),))
        assert set(flagged(config, capture)) == names


@pytest.mark.parametrize(("watts", "names"), [(10, set()), (6, {"views_agree"})])
def test_two_views_that_disagree_are_flagged(
    config: RunConfig, watts: int, names: set[str]
) -> None:
    counter = a_counter()
    source = dataclasses.replace(
        counter.source, id="fake/power", kind="power", unit="mW", summed=False
    )
    power = dataclasses.replace(
        counter, source=source, raw=tuple(watts * 1000 for _ in counter.raw)
    )
    capture = a_capture(series=(counter, power))
    assert set(flagged(config, capture)) == names
    values = metrics.derive(
        capture, metrics.energy_figures(capture, MeasurementConfig(name="t")), LoadConfig()
    )
    assert values["crosscheck/cpu_package_power_to_counter_ratio"] == pytest.approx(watts / 10)


def of_gpu(capture: Capture, *, name: str = "fake/gpu") -> Capture:
    """The same capture on a GPU: its counter counts a GPU's joules, and nothing else."""
    counter = a_counter()
    source = dataclasses.replace(
        counter.source, id=name, domain="gpu", device="GPU-1 NVIDIA Fake 100"
    )
    return dataclasses.replace(capture, series=(dataclasses.replace(counter, source=source),))


def on_cuda(config: RunConfig, capture: Capture) -> tuple[Trial, Capture]:
    """A trial with provider=cuda, and its capture."""
    provider = dataclasses.replace(config.provider, name="cuda")
    cell = a_cell(config, provider=provider, measurement=PLAIN)
    effective = {**capture.effective, "provider": "cuda", "device_uuid": "GPU-1"}
    return a_trial(config, cell=cell), dataclasses.replace(capture, effective=effective)


def test_a_processor_s_trial_of_which_only_the_gpu_was_metered_is_invalid_and_has_no_total(
    config: RunConfig,
) -> None:
    note = "rapl: /sys/energy_uj cannot be read (EACCES): sudo chmod a+r /sys/energy_uj"
    sampler = dataclasses.replace(a_capture().sampler, notes=(note,))
    capture = dataclasses.replace(of_gpu(a_capture()), sampler=sampler)
    for mode in ("auto", "strict"):
        reason = failing(config, capture, mode=mode)["energy_known"]
        assert "provider=cpu computes on the processor, which is not in the sum" in reason
        assert "GPU only: 1 GPU (NVIDIA Fake 100)" in reason
        assert note in reason
        assert "measurement=wall" in reason
    figures = metrics.energy_figures(capture, PLAIN)
    assert {figure.domain for figure in figures} == {"gpu"}
    values = metrics.derive(capture, figures, LoadConfig())
    assert values["energy/gpu_j"] == pytest.approx(40)
    assert not [name for name in values if "total" in name or "per_output_token" in name]


def test_a_gpu_s_trial_of_which_only_the_processor_was_metered_is_invalid_and_has_no_total(
    config: RunConfig,
) -> None:
    trial, capture = on_cuda(config, a_capture())
    results = checks.run(trial, capture, metrics.energy_figures(capture, PLAIN))
    [reason] = [result.detail for result in results if result.name == "energy_known"]
    assert reason.startswith("provider=cuda computes on the GPU, which is not in the sum")
    values = metrics.derive(capture, metrics.energy_figures(capture, PLAIN), LoadConfig())
    assert not [name for name in values if "total" in name or "per_output_token" in name]


def test_a_gpu_s_trial_without_processors_is_valid_and_its_sum_is_no_total(
    config: RunConfig,
) -> None:
    trial, capture = on_cuda(config, of_gpu(a_capture()))
    figures = metrics.energy_figures(capture, PLAIN)
    results = checks.run(trial, capture, figures)
    assert [result.name for result in results if result.passed is False] == []
    [detail] = [result.detail for result in results if result.name == "energy_known"]
    assert detail.endswith("GPU only: 1 GPU (NVIDIA Fake 100); processors and memory not included")
    values = metrics.derive(capture, figures, LoadConfig())
    assert values["energy_devices/sum_j"] == pytest.approx(40)
    assert values["energy_devices/per_output_token_j"] == pytest.approx(40 / 16)
    assert values["energy_devices/load_sum_j"] == pytest.approx(10)
    assert values["energy_devices/net_sum_j"] == pytest.approx(0, abs=1e-9)
    assert {name for name in values if name.startswith("energy/")} >= {"energy/gpu_j"}
    assert not [name for name in values if "total" in name]


def test_a_meter_at_the_wall_covers_every_provider(config: RunConfig) -> None:
    counter = a_counter()
    source = dataclasses.replace(counter.source, domain="wall", device="192.0.2.7")
    capture = a_capture(series=(dataclasses.replace(counter, source=source),))
    assert failing(config, capture) == {}
    trial, capture = on_cuda(config, capture)
    results = checks.run(trial, capture, metrics.energy_figures(capture, PLAIN))
    assert [result.detail for result in results if result.passed is False] == []


def test_a_wall_meter_that_was_requested_and_gave_no_reading_voids_the_trial(
    config: RunConfig,
) -> None:
    meter = WallMeterConfig(url="http://192.0.2.7/", path="power", unit="W")
    wall = a_counter()
    source = dataclasses.replace(wall.source, id="wall/power", domain="wall", summed=False)
    read = dataclasses.replace(wall, source=source)
    mute = dataclasses.replace(
        read, raw=(None,) * len(read.raw), errors={"0": "192.0.2.7 cannot be reached"}
    )
    assert failing(config, a_capture(series=(a_counter(), read)), wall_meter=meter) == {}
    assert failing(config, a_capture(series=(a_counter(), mute)), wall_meter=meter) == {
        "requested_meter": "measurement.wall_meter: 192.0.2.7 cannot be reached"
    }
    assert set(failing(config, a_capture(), wall_meter=meter)) == {"requested_meter"}


def test_work_on_a_gpu_must_be_proven_to_be_on_a_metered_one(config: RunConfig) -> None:
    name, gpu = "work_on_metered_device", "GPU-1 NVIDIA Fake 100"
    source = dataclasses.replace(a_counter().source, domain="gpu", device=gpu)
    capture = a_capture(series=(a_counter(source=source),))
    capture = dataclasses.replace(capture, effective=capture.effective | {"provider": "cuda"})
    proven = dataclasses.replace(capture, effective=capture.effective | {"device_uuid": "GPU-1"})

    def judged(capture: Capture, **measurement: Any) -> CheckResult:
        chosen = MeasurementConfig(name="test", **measurement)
        cell = a_cell(config, measurement=chosen, provider=ProviderConfig(name="cuda"))
        results = checks.run(a_trial(config, cell=cell), capture, ())
        return next(result for result in results if result.name == name)

    assert judged(proven).passed is True
    assert judged(capture).passed is False
    assert judged(capture, mode="off").passed is None
