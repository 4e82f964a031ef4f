from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from slm_energy import checks, metrics
from slm_energy.config import MeasurementConfig, RunConfig
from slm_energy.record import Capture, SamplerReport
from tests.captures import a_capture, a_counter, without
from tests.conftest import a_cell, a_trial


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
