"""What a store has to hold after the studies: rows of what, whether it does, and the figures."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from tests.slurm.cluster import NODES

Row = tuple[str, bool, str]


class Study:
    """The trials of a study in a store."""

    def __init__(self, uri: str, name: str) -> None:
        self._client = MlflowClient(uri)
        experiment = self._client.get_experiment_by_name(name)
        assert experiment is not None, name
        self.runs = list(self._client.search_runs([experiment.experiment_id]))
        trials = [run for run in self.runs if run.data.tags.get("slm.kind") == "trial"]
        self.valid = [run for run in trials if run.data.tags.get("slm.outcome") == "valid"]
        self.other = [run for run in trials if run not in self.valid]

    def once_each(self, name: str, trials: int) -> list[Row]:
        """Each place of the plan has one valid trial, and no run is left open."""
        places = {tuple(run.data.tags[f"slm.{key}"] for key in PLACE) for run in self.valid}
        statuses = sorted({run.info.status for run in self.runs})
        good = len(self.valid) == len(places) == trials
        return [
            (f"{name}: {trials} valid trials, none twice", good, f"{len(self.valid)} valid"),
            (f"{name}: no run is left RUNNING", "RUNNING" not in statuses, ", ".join(statuses)),
        ]

    def artifact(self, run: Run, name: str) -> Any:
        """A JSON artifact of a trial."""
        with tempfile.TemporaryDirectory() as folder:
            return json.loads(
                Path(self._client.download_artifacts(run.info.run_id, name, folder)).read_text()
            )


PLACE = ("cell", "round")


def endings(study: Study, expected: Counter[str]) -> list[Row]:
    """Each fault has its name in the store, and none counts as an attempt but the cancellation."""
    tags = [run.data.tags for run in study.other]
    found = Counter(tag.get("slm.ended_by", "cancelled") for tag in tags)
    cancelled = [tag for tag in tags if "slm.ended_by" not in tag]
    last = Counter[tuple[str, str]]()
    for tag in (run.data.tags for run in (*study.valid, *study.other)):
        trial = tag["slm.cell"], tag["slm.round"]
        last[trial] = max(last[trial], int(tag["slm.attempt"]))
    attempts = last.total() - len(last)
    restarts = sum(int(run.data.tags.get("slm.restarts", 0)) for run in study.valid)
    named = all("CANCELLED" in tag["slm.reason"] for tag in cancelled)
    listed = ", ".join(f"{count} {name}" for name, count in sorted(found.items()))
    return [
        ("what ended jobs is known of each", found == expected and named, listed),
        ("only the cancellation was an attempt", attempts == 1, f"{attempts} further attempts"),
        ("requeued jobs began again in their folder", restarts == 2, f"{restarts} restarts"),
    ]


def joules(study: Study, watts: Mapping[str, int]) -> list[Row]:
    """Each trial has the power of the node that it names, and of no other."""
    seen: dict[str, list[float]] = {name: [] for name in watts}
    for run in study.valid:
        seen[run.data.tags["slm.node"]].append(_mean_w(run, "cpu_package"))
    good = all(abs(w - watts[name]) < watts[name] / 20 for name, own in seen.items() for w in own)
    listed = "; ".join(
        f"{name}: {min(own):.1f} to {max(own):.1f} W" for name, own in seen.items() if own
    )
    return [("the joules are those of the trial's node", good and all(seen.values()), listed)]


def side_by_side(study: Study) -> list[Row]:
    """Jobs that share a node ran at a time, on processors of their own."""
    found = [(run, study.artifact(run, "environment.json")["environment"]) for run in study.valid]
    used = [_numbers(environment["processors_allowed"]) for _, environment in found]
    pairs = [
        used[i].isdisjoint(used[k])
        for i, (a, _) in enumerate(found)
        for k, (b, _) in enumerate(found)
        if i < k and _overlap(a, b)
    ]
    proxied = all(run.info.artifact_uri.startswith("mlflow-artifacts:") for run in study.valid)
    sets = " and ".join(sorted({str(sorted(each)) for each in used}))
    return [
        ("artifacts came through the server", proxied, f"{len(found)} trials"),
        ("jobs that share a node ran at a time", bool(pairs), f"{len(pairs)} pairs"),
        ("... on processors of their own", all(pairs), sets),
    ]


def gpus(study: Study, granted: str, watts: int) -> list[Row]:
    """The trial metered the GPU that Slurm granted, and one that was not granted was refused."""
    [run] = study.valid
    figures = study.artifact(run, "energy.json")
    devices = {f["pedigree"].get("device") for f in figures if f["domain"] == "gpu"}
    mean_w = _mean_w(run, "gpu")
    good = all(granted in str(device) for device in devices) and abs(mean_w - watts) < watts / 20
    return [
        ("the granted GPU is metered, by its UUID", good, f"{devices}, {mean_w:.1f} W"),
        *refused(study.other, "only 1 GPU(s) visible"),
    ]


def refused(trials: Sequence[Run], why: str) -> list[Row]:
    """One trial has no GPU, and says so once."""
    tags = [run.data.tags for run in trials]
    good = [tag.get("slm.ended_by") for tag in tags] == ["NO_GPU"] and why in tags[0]["slm.reason"]
    return [(f"refused in one line: {why}", good, "; ".join(tag["slm.reason"] for tag in tags))]


def nodes(study: Study) -> list[Row]:
    """Every node had its part."""
    used = sorted({run.data.tags["slm.node"] for run in study.valid})
    return [("both nodes were used", used == sorted(NODES), ", ".join(used))]


def _mean_w(run: Run, domain: str) -> float:
    return float(run.data.metrics[f"energy/{domain}_j"] / run.data.metrics["time/serve_s"])


def _numbers(listed: str) -> frozenset[int]:
    """`0-1,4` as numbers."""
    spans = [part.split("-") for part in listed.split(",")]
    return frozenset(n for span in spans for n in range(int(span[0]), int(span[-1]) + 1))


def _overlap(a: Run, b: Run) -> bool:
    return bool(a.info.start_time < b.info.end_time and b.info.start_time < a.info.end_time)
