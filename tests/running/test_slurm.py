"""What a queue is asked for and says, on a Slurm whose commands do as a test says."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from slm_energy.config.groups import LauncherConfig
from slm_energy.errors import ConfigError, SlmEnergyError
from slm_energy.running.slurm import Queue, QueuedJob, open_queue
from tests.fake_slurm import FakeSlurm


def slurm_queue(**parameters: Any) -> Queue:
    return open_queue(LauncherConfig(cluster="slurm", at_once=2, parameters=parameters))


def submitted(slurm: FakeSlurm, folder: Path, **parameters: Any) -> str:
    slurm_queue(**parameters).submit("trial1", folder, print, {"OWN": "x"})
    return slurm.submission


def test_a_trial_is_one_process_that_has_the_node(slurm: FakeSlurm, tmp_path: Path) -> None:
    asked = {"exclusive": True, "mail-type": "END", "reservation": False}
    text = submitted(
        slurm,
        tmp_path / "job",
        partition="big",
        timeout_min=90,
        setup=["module load cuda"],
        additional_parameters=asked,
    )
    for line in (
        "#SBATCH --partition=big",
        "#SBATCH --time=90",
        "#SBATCH --exclusive",
        "#SBATCH --nodes=1",
        "#SBATCH --mail-type=END",
        "module load cuda",
    ):
        assert line in text.splitlines()
    assert "reservation" not in text


def test_slurm_neither_repeats_a_trial_nor_binds_it_to_one_processor(
    slurm: FakeSlurm, tmp_path: Path
) -> None:
    text = submitted(slurm, tmp_path / "job")
    assert "#SBATCH --no-requeue" in text.splitlines()
    assert "srun" not in text


def test_slurm_repeats_a_trial_where_it_is_to(slurm: FakeSlurm, tmp_path: Path) -> None:
    text = submitted(slurm, tmp_path / "job", additional_parameters={"requeue": True})
    assert "#SBATCH --requeue" in text.splitlines()
    assert "no-requeue" not in text


def test_a_trial_itself_is_warned_ahead_of_its_limit(slurm: FakeSlurm, tmp_path: Path) -> None:
    lines = submitted(slurm, tmp_path / "job", signal_delay_s=60).splitlines()
    assert "#SBATCH --signal=B:USR1@60" in lines
    # B is the batch step's own process, which has to be the trial's.
    assert any(line.startswith(f"exec {sys.executable} ") for line in lines)
    never = submitted(slurm, tmp_path / "other", signal_delay_s=0)
    assert "B:USR1" not in never


def test_a_job_gets_no_password_of_the_store(
    slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hush")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    submitted(slurm, tmp_path / "job")
    assert "hush" not in slurm.environment
    assert "TOKENIZERS_PARALLELISM=false" in slurm.environment
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "hush"


def test_a_job_gets_the_gpus_that_slurm_grants_it_and_not_those_of_the_login_node(
    slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    submitted(slurm, tmp_path / "job")
    assert "OWN=x" in slurm.environment
    assert "CUDA_VISIBLE_DEVICES" not in slurm.environment
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert "OWN" not in os.environ


def test_a_job_is_found_again_by_its_trial(slurm: FakeSlurm, tmp_path: Path) -> None:
    submitted(slurm, tmp_path / "job", name="nightly")
    slurm.now(1, "RUNNING", node="n7")
    jobs = slurm_queue().jobs()
    assert jobs is not None
    job = jobs["trial1"]
    assert (job.id, job.state, job.node) == ("1", "RUNNING", "n7")
    assert not job.waits
    assert not job.ended
    slurm_queue().cancel([job])
    jobs = slurm_queue().jobs()
    assert jobs is not None
    assert jobs["trial1"].ended


def test_a_controller_that_does_not_answer_is_no_verdict(slurm: FakeSlurm, tmp_path: Path) -> None:
    queue = slurm_queue()
    slurm.down()
    assert queue.jobs() is None
    with pytest.raises(SlmEnergyError, match=r"the job was not accepted: .*; check hydra.launcher"):
        queue.submit("trial1", tmp_path / "job", print, {})


def test_a_command_that_hangs_is_ended(
    slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = slurm_queue()
    submitted(slurm, tmp_path / "first")
    monkeypatch.setattr("slm_energy.running.slurm._COMMAND_S", 0.2)
    slurm.hang()
    assert queue.jobs() is None
    assert not queue.cancel([QueuedJob(id="1", state="RUNNING")])
    with pytest.raises(SlmEnergyError, match="the job was not accepted"):
        queue.submit("trial2", tmp_path / "job", print, {})


def test_a_parameter_that_submitit_does_not_know_is_named(slurm: FakeSlurm, tmp_path: Path) -> None:
    with pytest.raises(SlmEnergyError, match=r"not accepted.*slurm_partitoin"):
        submitted(slurm, tmp_path / "job", partitoin="big")


@pytest.mark.parametrize(
    ("partition", "name"), [({}, "alpha"), ({"partition": "big"}, "alpha-big")]
)
def test_the_machine_is_the_cluster_and_its_partition(
    slurm: FakeSlurm, partition: dict[str, str], name: str
) -> None:
    assert slurm_queue(**partition).machine == name


def test_without_a_cluster_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + "/nowhere")
    with pytest.raises(ConfigError, match="hydra/launcher=slurm: scontrol reports no cluster here"):
        slurm_queue()
