"""`--help`: of the whole command line, and of each verb."""

from __future__ import annotations

import subprocess
import sys

import pytest

from slm_energy.cli.main import VERBS
from slm_energy.config.compose import CONF
from tests.conftest import Command


@pytest.fixture(params=[80, 120])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The terminal's width."""
    monkeypatch.setenv("COLUMNS", str(request.param))
    return int(request.param)


def test_help_lists_verbs_examples_and_groups_with_their_choices(
    slm_energy: Command, columns: int
) -> None:
    done = slm_energy("--help", quick=False)
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    for verb in VERBS:
        assert f" {verb} {VERBS[verb].SUMMARY} " in text
    assert text.count("slm-energy -m engine=torch,onnx") == 1
    assert "provider= cpu, cuda, openvino_gpu, openvino_npu, tensorrt" in text
    assert "hydra/launcher= basic, slurm, processes" in text
    for sweep in (CONF.parent / "sweeps").glob("*.yaml"):
        assert f" {sweep.stem} " in text.partition("ready sweeps")[2]
    assert "paper The grid of arXiv 2412.15441, with its known flaws removed: twelve models" in text
    assert "slm-energy run --help explains every key" in text
    assert max(map(len, done.stdout.splitlines())) <= columns


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help_with_options_two_examples_and_keys(
    slm_energy: Command, columns: int, verb: str
) -> None:
    done = slm_energy(verb, "--help", quick=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: slm-energy {verb} ")
    for part in ("\noptions:\n", "-h, --help"):
        assert part in done.stdout
    [_, examples] = done.stdout.split("\nexamples:\n")
    assert examples.partition("\n\n")[0].count(f"  slm-energy {verb}") == 2
    reads_none = "reads no keys." in done.stdout
    assert reads_none == (verb in ("env", "metrics", "verify"))
    assert reads_none != ("\nkeys and their defaults:\n" in done.stdout)
    assert max(map(len, done.stdout.splitlines())) <= columns


@pytest.mark.parametrize(
    ("verb", "keys"),
    [
        ("run", ["workload.new_tokens=64", "study.gate.at_most_s=60.0", "cache.folder=null"]),
        ("plan", ["engine.decode=session", "study.rounds=1"]),
        ("doctor", ["measurement.limits.steal_pct=5.0", "tracking.folder=mlruns"]),
        ("report", ["margin=0.02", "out=null"]),
        ("compare", ["allow=[]", "tracking.folder=mlruns"]),
        ("ui", ["port=5000"]),
        ("sync", ["tracking.uri=null"]),
        ("cache", ["cache.folder=null"]),
    ],
)
def test_the_keys_of_a_verb_have_their_defaults(
    slm_energy: Command, verb: str, keys: list[str]
) -> None:
    lines = [line.split()[0] for line in slm_energy(verb, "-h", quick=False).stdout.splitlines()
             if line.startswith("  ")]  # fmt: skip
    assert set(keys) <= set(lines)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from slm_energy.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: print(*sys.modules)"
    )
    for words in (["--help"], ["report", "--help"], ["plan", "--help"]):
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        heavy = {"hydra", "mlflow", "numpy", "pandas", "scipy", "torch"}
        assert not heavy & set(done.stdout.splitlines()[-1].split())
