"""The view with which the MLflow UI opens a study; `test_browser.py` has what a person sees."""

from __future__ import annotations

import json

from slm_energy.store.shared_view import shared_view

ENERGY = "energy_estimated/per_output_token_j"


def state(*metrics: str) -> dict[str, object]:
    return dict(json.loads(json.loads(shared_view(metrics, 1000))["state"]))


def test_it_is_sorted_by_the_metric_that_decides_and_shows_its_interval() -> None:
    view = state(ENERGY, "latency/e2e_p50_s")
    assert view["orderByKey"] == f"metrics.`{ENERGY}`"
    assert view["selectedColumns"] == [
        "tags.`slm.label`",
        f"metrics.`{ENERGY}`",
        "metrics.`energy_estimated/per_output_token_low_j`",
        "metrics.`energy_estimated/per_output_token_high_j`",
        "metrics.`latency/e2e_p50_s`",
        "tags.`slm.round`",
        "tags.`slm.outcome`",
    ]


def test_however_many_metrics_a_study_has_mlflow_accepts_the_tag() -> None:
    metrics = [f"energy_estimated/{i}_per_output_token_j" for i in range(50)]
    assert len(shared_view(metrics, 1_800_000_000_000)) < 5000
