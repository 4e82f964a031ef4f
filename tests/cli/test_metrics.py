from __future__ import annotations

import argparse
import json

import pytest

from slm_energy.cli import metrics
from slm_energy.errors import ConfigError
from slm_energy.metric_catalog.catalog import METRICS


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    parser = argparse.ArgumentParser()
    metrics.configure(parser)
    assert metrics.run(parser.parse_args(words)) == 0
    return capsys.readouterr().out


def test_all_metrics_are_shown_group_by_group_and_fit_the_width(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = printed(capsys)
    lines = text.splitlines()
    assert lines[0].startswith("energy: joules that sensors counted")
    assert all(f"  {metric.name} " in text for metric in METRICS if not metric.bound)
    assert "{n}: nothing for the first GPU" in text
    assert max(len(line) for line in lines) <= 100


def test_a_word_selects_by_name_title_or_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "prompt tokens").splitlines() == [
        "tokens: how much was served",
        "  tokens/input  count",
        "      Input tokens. Prompt tokens of all requests, without padding. [worker: requests]",
        "",
    ]


def test_a_stored_name_is_explained_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert "GPU 2 peak memory" in printed(capsys, "memory/gpu2_peak_mb")
    assert "Load total energy, lower bound" in printed(capsys, "energy/load_total_low_j")


def test_json_has_every_field_of_every_metric(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(json.loads(printed(capsys, "--json"))) == len(METRICS)
    assert json.loads(printed(capsys, "--json", "requests_per_s")) == [
        {
            "name": "throughput/requests_per_s",
            "group": "throughput",
            "unit": "1/s",
            "title": "requests/s",
            "meaning": "Requests over the length of the serve window.",
            "origin": "worker: serve window",
            "better": "higher",
            "bound": False,
        }
    ]


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("tfft", "did you mean ttft?"),
        ("Energie", "did you mean energy?"),
        ("zzzzzz", "slm-energy metrics lists them all"),
    ],
)
def test_a_word_that_fits_nothing_gets_a_suggestion(word: str, advice: str) -> None:
    with pytest.raises(ConfigError, match=advice.replace("?", r"\?")):
        metrics.matching(word)
