"""The verb `recommend` on the real command line."""

from __future__ import annotations

import pytest

import slm_energy as package
from slm_energy.cli.recommend import gathered
from slm_energy.errors import ConfigError
from tests.conftest import Command


def test_limits_are_gathered_because_a_key_has_no_slash_in_hydra() -> None:
    words = ["study=x", "at_most.latency/e2e_p95_s=2", "at_most.ttft_p50_s=1e-1"]
    assert gathered(words) == ["study=x", "at_most={latency/e2e_p95_s:2,ttft_p50_s:1e-1}"]
    with pytest.raises(ConfigError, match=r"write at_least\.METRIC=NUMBER"):
        gathered(["at_least.=3"])


def test_a_study_is_recommended_from_or_nothing_meets_the_conditions(slm_energy: Command) -> None:
    assert slm_energy("-m", "engine.decode=session,generate", "study.rounds=2").returncode == 0
    met = slm_energy(
        "recommend", "study=default", "at_most.latency/e2e_p95_s=900", "at_least.ttft_p50_s=0",
        quick=False,
    )  # fmt: skip
    assert (met.returncode, met.stderr) == (0, "")
    assert "configuration with TTFT p50 of at least 0 ms and end-to-end latency p95" in met.stdout
    unmet = slm_energy("recommend", "study=default", "at_least.e2e_p95_s=900", quick=False)
    assert unmet.returncode == 1
    assert "No configuration meets the condition: end-to-end latency" in unmet.stdout
    unknown = slm_energy("recommend", "study=default", "at_least.e2e_p59_s=1", quick=False)
    assert unknown.returncode == 2
    assert unknown.stderr == "error: at_least.e2e_p59_s: no such metric; did you mean e2e_p95_s?\n"
    wrong = slm_energy("recommend", "study=default", "at_least.e2e_p95_s=fast", quick=False)
    assert wrong.returncode == 2
    assert "at_least" in wrong.stderr

    in_python = package.recommend("default", at_most={"latency/e2e_p95_s": 900})
    assert in_python.recommended in " ".join(str(in_python).split())
    assert list(in_python.candidates["excluded"]) == ["", ""]
    assert in_python.recommended in in_python._repr_html_()
    assert package.recommend("default", at_least={"e2e_p95_s": 900}).recommended is None
