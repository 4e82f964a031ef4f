"""The view with which the MLflow UI opens a study; `test_browser.py` has what a person sees."""

from __future__ import annotations

import json
from typing import Any

from slm_energy.store.shared_view import shared_view

GROUPS = ("sampler", "contamination", "latency", "energy_estimated")
ENERGY = "energy_estimated/per_output_token_j"


def state(*metrics: str) -> dict[str, Any]:
    return dict(json.loads(json.loads(shared_view(metrics, GROUPS, 1000))["state"]))


def test_it_is_sorted_by_the_metric_that_decides_and_shows_its_interval() -> None:
    view = state(ENERGY, "latency/e2e_p50_s")
    assert view["orderByKey"] == f"metrics.`{ENERGY}`"
    assert view["selectedColumns"] == [
        f"metrics.`{ENERGY}`",
        "metrics.`energy_estimated/per_output_token_low_j`",
        "metrics.`energy_estimated/per_output_token_high_j`",
        "metrics.`latency/e2e_p50_s`",
        "tags.`slm.round`",
        "tags.`slm.outcome`",
    ]


def test_sections_of_charts_begin_with_energy_and_end_with_what_metering_did() -> None:
    sections = [each["name"] for each in state(ENERGY, "latency/e2e_p50_s")["compareRunSections"]]
    assert sections == [
        "Energy", "Other metrics", "energy_estimated", "latency", "contamination", "sampler",
    ]  # fmt: skip


def test_however_many_metrics_a_study_has_mlflow_accepts_the_tag() -> None:
    metrics = [f"energy_estimated/{i}_per_output_token_j" for i in range(50)]
    assert len(shared_view(metrics, GROUPS, 1_800_000_000_000)) < 5000
