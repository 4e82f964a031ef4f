"""Scores are read once per cell and verdict, and lost files are gaps."""

import json

import numpy as np
import pytest

from slm_energy.analysis.trials.answers import answer_counts, by_cell, read_answers
from slm_energy.analysis.trials.frame import tidy
from slm_energy.errors import TrackingError
from slm_energy.store.artifacts import SCORES, TABLE

TWO = {"torch/cpu": 0.033, "onnx/cpu": 0.012}


class Store:
    """Artifacts of runs: what each cell answered, in files that may be lost."""

    def __init__(self, frame, verdicts, *, text="same", lost=(), share=None):
        self.cells = dict(zip(frame["run_id"], frame["cell"], strict=True))
        self.verdicts, self.text, self.lost, self.share = verdicts, text, lost, share
        self.read = []

    def attached(self, run, name):
        self.read.append((run, name))
        if name in self.lost or run in self.lost:
            raise TrackingError(f"run {run} has no artifact {name}")
        verdicts = self.verdicts[self.cells[run]]
        if name == TABLE:
            rows = [[str(i), self.text] for i in range(len(verdicts))]
            return json.dumps({"columns": ["task_id", "completion"], "data": rows})
        scores = [{"task_id": str(i), "verdict": v, "why": ""} for i, v in enumerate(verdicts)]
        for score in scores:
            score["time_share"] = self.share and self.share[int(score["task_id"])]
        return json.dumps({"unscored": "", "scores": scores})


@pytest.fixture
def scored(study):
    """A study, the hash of whose verdicts is the same in all rounds of a cell."""
    frame = study(TWO, rounds=3)
    return frame.assign(scored="1", verdicts="hash")


VERDICTS = {"torch-cpu": ["passed", "timeout", "refused"], "onnx-cpu": ["passed"] * 3}


def test_rounds_with_equal_verdicts_are_read_once_per_cell(scored):
    store = Store(scored, VERDICTS)
    answers, lost = read_answers(scored, store.attached)
    assert len(answers) == 6
    assert lost == ()
    assert len(store.read) == 4  # scores and answers of two cells
    cells = by_cell(tidy(scored, "toy"), answers)
    assert cells["torch-cpu"].tasks == ("0", "1")
    assert cells["torch-cpu"].refused == 1
    assert cells["torch-cpu"].solved.tolist() == [[1, 0]] * 3
    assert cells["torch-cpu"].shares is None
    assert cells["torch-cpu"].digests == cells["onnx-cpu"].digests != ()


def test_trials_of_older_stores_have_no_hash_and_are_read_one_by_one(scored):
    store = Store(scored, VERDICTS)
    read_answers(scored.assign(verdicts=""), store.attached)
    assert len(store.read) == 12


def test_scores_by_other_tests_than_the_newest_trials_are_in_no_figure(scored):
    scored["workload.digest"] = "w"
    scored["tests"] = ["", "", "old", "old", "new", "new"]
    scored["quality/pass_at_1"] = 0.5
    store = Store(scored, VERDICTS)
    study = tidy(scored, "toy")
    answers = read_answers(scored, store.attached)[0]
    assert [own.rounds for own in by_cell(study, answers).values()] == [(3,), (3,)]
    assert [own.trials for own in answer_counts(study, answers)] == [1, 1]
    assert np.isnan(study.block("quality/pass_at_1")).tolist() == [[True] * 2] * 2 + [[False] * 2]
    [left] = study.left_out()
    assert left.name == "scores of 4 trials"
    assert left.reason.endswith("slm-energy score study=toy scores them again")
    energy = study.block("energy/per_output_token_j")
    assert not np.isnan(energy).any(), "their energy counts"


def test_scores_that_recorded_no_tests_are_kept_among_themselves(scored):
    assert tidy(scored.assign(tests=None), "toy").left_out() == []
    assert tidy(scored, "toy").left_out() == []


def test_a_store_without_scores_has_no_answers(study):
    frame = study(TWO)
    for each in (frame, frame.assign(scored="", verdicts="")):
        assert read_answers(each, Store(frame, VERDICTS).attached) == ({}, ())


def test_lost_scores_are_one_line_and_another_round_takes_their_place(scored):
    first = scored.loc[scored["cell"] == "torch-cpu", "run_id"].iloc[0]
    answers, lost = read_answers(scored, Store(scored, VERDICTS, lost=(first,)).attached)
    assert len(answers) == 5
    assert lost == (
        f"scores of 1 of 6 scored trials cannot be read: run {first} has no artifact {SCORES}",
    )


def test_answers_that_were_lost_are_identical_to_none(scored):
    answers, lost = read_answers(scored, Store(scored, VERDICTS, lost=(TABLE,)).attached)
    assert lost == ()
    assert {each.digests for each in by_cell(tidy(scored, "toy"), answers).values()} == {()}


def test_shares_of_time_are_relative_to_the_mean_task(scored):
    store = Store(scored, VERDICTS, share=[0.1, 0.3, 0.6])
    cells = by_cell(tidy(scored, "toy"), read_answers(scored, store.attached)[0])
    assert np.allclose(cells["onnx-cpu"].shares, [0.3, 0.9, 1.8])
