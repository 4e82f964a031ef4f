"""What is printed can be pasted into a shell, in whatever folder it is about."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from slm_energy.cli.console import shell_path
from slm_energy.cli.run import ui_command
from slm_energy.config.check import tracking_group
from slm_energy.config.compose import compose
from slm_energy.config.groups import TrackingConfig
from slm_energy.escape import shell_override
from tests.conftest import Command, ready_store


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("file:///data/my%20runs%20%C3%A9/worker.log", "'/data/my runs é/worker.log'"),
        ("/data/my runs é", "'/data/my runs é'"),
        ("file:///data/runs/report.html", "/data/runs/report.html"),
        ("/data/100%25", "/data/100%25"),
        ("mlflow-artifacts:/1/abc/artifacts", "mlflow-artifacts:/1/abc/artifacts"),
    ],
)
def test_paths_are_quoted_and_not_percent_encoded(location: str, shown: str) -> None:
    assert shell_path(location) == shown


@pytest.mark.parametrize(
    "folder",
    [
        "my runs é",
        "a,b",
        "it's",
        'a "b"',
        "runs/2024",
        "{x}",
        "back\\slash",
        "a=b",
        "2024",
        "end\\",
        "é,ü (1)",
    ],
)
def test_a_printed_key_means_the_same_when_it_is_pasted(folder: str) -> None:
    words = shlex.split(ui_command(TrackingConfig(name="local", folder=folder)))
    assert words[1:4] == ["-m", "slm_energy", "ui"]
    assert tracking_group(compose("ui", words[4:])).folder == folder


def test_a_plain_key_needs_no_quotes() -> None:
    assert shell_override("tracking.uri", "http://host:5000") == "tracking.uri=http://host:5000"


def test_a_folder_with_spaces_and_accents_works_from_run_to_report_sync_and_ui(
    tmp_path: Path, slm_energy: Command, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "my runs é feature%2Fx a?b#c"
    here.mkdir()
    monkeypatch.chdir(here)
    ready_store(here / "mlruns", empty_store)
    done = slm_energy("study.rounds=2", "engine.options.fail=load,never", "-m")
    assert done.returncode == 1, done.stderr
    [log] = re.findall(r"\n  see (.*)\n", done.stdout)
    assert Path(*shlex.split(log)).is_file()
    [page] = re.findall(r"\nreport: (.*)\n", done.stdout)
    assert Path(*shlex.split(page)).is_file()
    assert "%20" not in done.stdout + done.stderr

    out = here / "a rapport é"
    report = slm_energy("report", "out=a rapport é", "study=default", quick=False)
    assert report.returncode == 0, report.stderr
    assert (out / "report.html").is_file()

    elsewhere = tmp_path / "ülk"
    ready_store(elsewhere, empty_store)
    folder = "tracking.folder=node é"
    offline = slm_energy("tracking=offline", folder, "engine.options.fail=never")
    assert offline.returncode == 0, offline.stderr
    [command] = re.findall(r"(slm-energy sync .*) tracking=NAME sends the records", offline.stdout)
    sync = slm_energy(*shlex.split(command)[1:], f"tracking.folder={elsewhere}", quick=False)
    assert "study default: 1 records sent" in sync.stdout, sync.stderr
    assert slm_energy(*shlex.split(command)[1:], quick=False).returncode == 0
    shutil.rmtree(here / "node é")
    gone = slm_energy(*shlex.split(command)[1:], quick=False)
    assert gone.stderr == f"error: sync '{here / 'node é'}': there is no such folder\n"

    moved = slm_energy(f"tracking.folder={elsewhere}", "engine.options.fail=never")
    [browse] = re.findall(r"browse the runs: (.*)\n", moved.stdout)
    [word] = shlex.split(browse)[4:]
    assert tracking_group(compose("ui", [word])).folder == str(elsewhere)
