"""How the time of a serve window is shared among tasks."""

from __future__ import annotations

import dataclasses

import pytest

from slm_energy.derive import solved
from slm_energy.record import Generation, TaskScore
from tests.captures import a_generation


def request(task: str, start_ns: int, *token_ns: int, pass_index: int = 0) -> Generation:
    made = a_generation(task, pass_index, start_ns)
    return dataclasses.replace(made, token_ns=token_ns, output_ids=tuple(range(len(token_ns))))


def test_requests_one_after_the_other_have_the_shares_of_their_durations() -> None:
    shares = solved.time_shares([request("a", 0, 5, 10), request("b", 90, 100, 120)])
    assert shares == {"a": 0.25, "b": 0.75}


def test_all_passes_count() -> None:
    both = [request("a", 0, 10), request("b", 10, 20), request("a", 20, 60, pass_index=1)]
    assert solved.time_shares(both) == pytest.approx({"a": 50 / 60, "b": 10 / 60})


def test_requests_of_a_batch_share_each_moment_until_they_have_ended() -> None:
    shares = solved.time_shares([request("a", 0, 10), request("b", 0, 10, 40)])
    assert shares == pytest.approx({"a": 5 / 40, "b": 35 / 40})


def test_requests_that_overlap_share_the_overlap() -> None:
    requests = [request("a", 0, 20), request("b", 10, 30), request("c", 15, 20)]
    expected = {"a": 10 + 2.5 + 5 / 3, "b": 2.5 + 5 / 3 + 10, "c": 5 / 3}
    assert solved.time_shares(requests) == pytest.approx({k: v / 30 for k, v in expected.items()})


def test_the_shares_sum_to_one() -> None:
    requests = [request(f"t{n % 7}", 1000 * n, 1000 * n + 700 + n * n) for n in range(200)]
    assert sum(solved.time_shares(requests).values()) == pytest.approx(1, abs=1e-12)


def test_a_task_without_tokens_has_no_share_and_without_any_time_none_is_known() -> None:
    assert solved.time_shares([request("a", 0, 10), request("b", 20)]) == {"a": 1.0, "b": 0.0}
    assert solved.time_shares([request("a", 5)]) == {}
    (score,) = solved.with_time_shares([TaskScore(task_id="a", verdict="passed")], [])
    assert score.time_share is None
