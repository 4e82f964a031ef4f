"""Loads through the command line: what is stored of one, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import LENIENT, Command, refusal, trials

SERVER = (
    "engine=openai_server",
    "engine.options.command='{python} -m slm_energy.testing.completions --port {port} --model"
    " {model} --prefill-s 0.02 --token-s 0.005 --slots 1'",
)
QUICK = (
    "model=bundled",
    "measurement=off",
    "study.reference=null",
    "study.sandbox=off",
    *LENIENT,
    "measurement.baseline_s=0",
    "measurement.warmup_requests=0",
    "measurement.serve_s=1.5",
    "workload.limit=2",
    "workload.new_tokens=4",
    "load.ramp_s=0",
)


def test_an_open_load_is_stored_with_its_metrics(slm_energy: Command, tmp_path: Path) -> None:
    words = ("load=open", "load.rate=15", "load.slo.e2e_s=10", "load.late_s=10")
    done = slm_energy(*SERVER, *QUICK, *words, "load.client_cpu_pct=100", quick=False)
    assert done.returncode == 0, done.stderr
    [row] = trials(tmp_path).to_dict("records")
    assert row["outcome"] == "valid"
    assert row["load.rate"] == "15.0"
    assert 5 < row["load/offered_per_s"] < 30
    assert row["load/delivered_per_s"] > 5
    assert row["load/goodput_per_s"] == row["load/delivered_per_s"]
    assert row["load/good_share"] == 1
    assert row["load/refused_count"] == row["load/failed_count"] == row["load/aborted_count"] == 0
    assert row["load/saturated"] == 0
    assert row["load/queue_mean_s"] >= 0
    assert row["load/client_late_p99_s"] >= 0
    assert row["load/client_cpu_pct"] > 0
    assert row["load/in_flight_mean_count"] > 0
    assert row["latency/e2e_p50_s"] >= 0.035
    assert row["time/ramp_s"] < row["time/serve_s"]
    metrics = "metrics=[latency/e2e_p50_s]"
    asked = slm_energy("checklist", "study=default", metrics, quick=False)
    assert "15 requests/s, poisson" in " ".join(asked.stdout.split()), asked.stderr
    words = ("study=default", "out=package", "authors=[Ada]", "data_license=CC0-1.0", metrics)
    packed = slm_energy("export", *words, quick=False)
    assert "verified: everything is as stated" in packed.stdout, packed.stdout + packed.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("load=open",), "load=open needs one of load.rate"),
        (("load=open", "load.rate=0"), "load.rate=0"),
        (("load=open", "load.rate=1", "+load.slo.ttfs_s=1"), "unknown key 'ttfs_s'; known: ttft_s"),
        (("load=open", "load.rate=1", "load.slo.ttfs_s=1"), "load.slo.ttfs_s"),
        (("load=closed", "workload.batch_size=2"), "workload.batch_size=2 with load=closed"),
        (("load.rate=1",), "load.rate=1.0 with load=batch"),
        (("load=open", "load.trace=missing.csv"), "load.trace=missing.csv cannot be read"),
    ],
)
def test_bad_input_is_one_line(slm_energy: Command, words: tuple[str, ...], line: str) -> None:
    assert line in refusal(slm_energy(*SERVER, *QUICK, *words, quick=False))


def test_a_server_that_dies_under_load_fails_the_trial(slm_energy: Command, tmp_path: Path) -> None:
    command = SERVER[1].replace("--slots 1", "--slots 1 --fault kill --fault-after 8")
    words = ("load=open", "load.rate=15", "study.attempts=1")
    done = slm_energy(SERVER[0], command, *QUICK, *words, quick=False)
    assert done.returncode == 1
    [row] = trials(tmp_path).to_dict("records")
    assert row["outcome"] == "failed"
    assert "the server was killed by SIGKILL" in row["reason"]
