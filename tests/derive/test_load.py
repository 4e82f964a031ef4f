"""Requests as a window counts them: unbiased on simulated servers, by queueing theory on real ones.

D/1: one request at a time, in order of arrival, each for the same time D. With Poisson arrivals of
rate r its load is rho = r D, and requests wait rho D / (2 (1 - rho)) on average (Pollaczek and
Khinchine; Kleinrock, Queueing Systems I, 1975, section 5.6).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from slm_energy.config.groups import LoadConfig, RunConfig, SloConfig
from slm_energy.derive import checks, load, metrics
from slm_energy.record import Generation, LoadReport, Window
from tests.captures import a_capture, a_counter, a_generation
from tests.conftest import a_cell, a_trial
from tests.loads import captured, due, open_load, scripted

S = 1_000_000_000
OPEN = open_load(1.0)
TOKENS = 8


def one_at_a_time(rate: float, service_s: float, seconds: float, seed: int = 1) -> list[Generation]:
    """Poisson arrivals at a D/1 server, whose tokens come at equal times."""
    chance = np.random.default_rng(seed)
    due_s = np.cumsum(chance.exponential(1 / rate, round(rate * seconds)))
    found, free_s = [], 0.0
    for number, at_s in enumerate(due_s):
        begin_s = max(at_s, free_s)
        free_s = begin_s + service_s
        stamps = begin_s + service_s * np.arange(1, TOKENS + 1) / TOKENS
        found.append(a_request(number, at_s, stamps))
    return found


def a_request(
    number: int, due_s: float, token_s: Sequence[float], ended: str = "complete", **changes: object
) -> Generation:
    """A request of the load; it ended with its last token."""
    due_ns, token_ns = round(due_s * S), tuple(round(each * S) for each in token_s)
    values = {
        "output_ids": tuple(range(len(token_ns))),
        "token_ns": token_ns,
        "due_ns": due_ns,
        "ended": ended,
        "ended_ns": token_ns[-1] if token_ns else due_ns,
    }
    return a_generation(f"t{number}", 0, due_ns, **values | changes)


def a_window(start_s: float, end_s: float) -> Window:
    return Window(name="serve", start_ns=round(start_s * S), end_ns=round(end_s * S))


def counts(requests: Sequence[Generation], length_s: float, skip_s: float) -> list[load.Counted]:
    """Of windows one after another, each given the requests that touch it."""
    last_s = (requests[-1].due_ns or 0) / S
    result = []
    for start_s in np.arange(skip_s, last_s - length_s, length_s):
        window = a_window(start_s, start_s + length_s)
        near = [
            each
            for each in requests
            if (each.due_ns or 0) < window.end_ns and (each.ended_ns or 0) >= window.start_ns
        ]
        result.append((window, near))
    return [(window, near, load.count(near, window, OPEN)) for window, near in result]


def test_windows_count_requests_and_tokens_without_bias() -> None:
    """Over many windows of a few requests each the mean is the rate, within 3 standard errors.

    Counting only requests that lie within the window is far too low, all that touch it too high.
    """
    rate, length_s = 2.0, 5.0
    found = counts(one_at_a_time(rate, 0.35, 3000), length_s, skip_s=50)
    within, touching = [], []
    for window, near, _ in found:
        within.append(
            sum(
                (each.due_ns or 0) >= window.start_ns and (each.ended_ns or 0) < window.end_ns
                for each in near
            )
        )
        touching.append(len(near))

    def errors_off(values: Sequence[float], expected: float) -> float:
        """By how many standard errors the mean is off; windows side by side share requests."""
        means = np.array(values[: len(values) // 10 * 10]).reshape(-1, 10).mean(axis=1)
        return float((means.mean() - expected) / (means.std(ddof=1) / math.sqrt(len(means))))

    expected = rate * length_s
    assert abs(errors_off([each.requests for _, _, each in found], expected)) < 3
    assert abs(errors_off([each.tokens for _, _, each in found], TOKENS * expected)) < 3
    assert errors_off(within, expected) < -6
    assert errors_off(touching, expected) > 6


def test_adjacent_windows_count_everything_once() -> None:
    requests = one_at_a_time(2.0, 0.4, 60)
    last_s = (requests[-1].ended_ns or 0) / S + 1
    edges = [0.0, 0.13, 7.77, 8.0, 31.4, last_s]
    parts = [load.count(requests, a_window(a, b), OPEN) for a, b in itertools.pairwise(edges)]
    assert sum(part.requests for part in parts) == pytest.approx(len(requests))
    assert sum(part.tokens for part in parts) == TOKENS * len(requests)
    assert sum(len(part.due) for part in parts) == len(requests)


def test_requests_in_flight_follow_littles_law() -> None:
    """L = rate x W, over the whole run exactly, and of the backlog at its edges nothing."""
    requests = one_at_a_time(2.0, 0.4, 200)
    length_s = (requests[-1].ended_ns or 0) / S + 1
    counted = load.count(requests, a_window(0, length_s), OPEN)
    spent_s = [((each.ended_ns or 0) - (each.due_ns or 0)) / S for each in requests]
    assert counted.in_flight == pytest.approx(sum(spent_s) / length_s)
    assert counted.backlog == (0, 0)


def test_a_d1_server_waits_as_theory_says_in_a_simulation() -> None:
    rate, service_s = 2.0, 0.35
    rho = rate * service_s
    requests = one_at_a_time(rate, service_s, 20_000)
    waits_s = [((each.ended_ns or 0) - (each.due_ns or 0)) / S - service_s for each in requests]
    means = np.array(waits_s[:40_000]).reshape(40, -1).mean(axis=1)
    expected = rho * service_s / (2 * (1 - rho))
    assert abs(means.mean() - expected) < 3 * means.std(ddof=1) / math.sqrt(40)


def test_a_d1_server_waits_as_theory_says_when_it_is_asked(config: RunConfig) -> None:
    """Through HTTP: the mean wait of theory is in the interval of that of the run.

    So is what the run's own gaps give: W' = max(0, W + D - gap) (Lindley). Two requests that are
    due together may change places, which leaves their mean.
    """
    prefill_s, token_s, rate = 0.018, 0.004, 20.0
    service_s = prefill_s + 3 * token_s
    rho = rate * service_s
    with scripted(prefill_s=prefill_s, token_s=token_s, slots=1) as server:
        capture = captured(config, open_load(rate), server, serve_s=8.0)
    requests = due(capture)
    waits_s = np.array(
        [(each.token_ns[0] - (each.due_ns or 0)) / S - prefill_s for each in requests]
    )
    gaps_s = np.diff([each.due_ns or 0 for each in requests]) / S
    lindley_s = [0.0]
    for gap_s in gaps_s:
        lindley_s.append(max(0.0, lindley_s[-1] + service_s - gap_s))
    over_s = waits_s - lindley_s  # connecting, and the client's own time
    assert over_s.mean() > 0
    expected = rho * service_s / (2 * (1 - rho)) + float(np.median(over_s))
    means = waits_s[: len(waits_s) // 10 * 10].reshape(10, -1).mean(axis=1)
    low_s, high_s = stats.t.interval(0.99, 9, means.mean(), means.std(ddof=1) / math.sqrt(10))
    assert low_s < expected < high_s
    assert len(requests) > 100


def test_a_queue_that_grows_is_saturated_and_one_that_only_swings_is_not() -> None:
    for rate, service_s, expected in ((2.0, 0.45, False), (2.0, 0.7, True), (0.5, 0.1, False)):
        requests = one_at_a_time(rate, service_s, 200)
        window = a_window(20, 120)
        counted = load.count(requests, window, OPEN)
        assert load.is_saturated(counted, open_load(rate), window.duration_s) is expected
        closed = LoadConfig(name="closed", mode="closed", clients=4)
        assert not load.is_saturated(counted, closed, window.duration_s)


def test_requests_that_timed_out_in_a_growing_queue_are_its_backlog() -> None:
    """Every second request has no answer 30 s after it was due."""
    answered = [a_request(n, n, [n + 0.5]) for n in range(0, 200, 2)]
    hung = [a_request(n, n, (), "failed", ended_ns=(n + 90) * S) for n in range(21, 200, 2)]
    counted = load.count([*answered, *hung], a_window(20, 120), OPEN)
    assert counted.backlog == (0, 45)
    assert counted.in_flight > 20
    assert load.is_saturated(counted, OPEN, 100.0)


def test_good_requests_keep_every_promise() -> None:
    request = a_request(1, 10.0, [10.4, 10.6, 10.8, 11.0])
    for slo, expected in (
        (SloConfig(), True),
        (SloConfig(ttft_s=0.4, tpot_s=0.2, e2e_s=1.0), True),
        (SloConfig(ttft_s=0.39), False),
        (SloConfig(tpot_s=0.19), False),
        (SloConfig(e2e_s=0.99), False),
    ):
        assert load.is_good(request, slo) is expected
        late = dataclasses.replace(request, start_ns=request.start_ns + S // 5)
        assert load.is_good(late, slo) is expected, "the promise counts from the due time"
    assert not load.is_good(dataclasses.replace(request, ended="aborted"), SloConfig())


def test_joules_of_good_and_aborted_requests() -> None:
    """10 W over 4 s; of three requests one is late, and one aborted after half of the time."""
    generations = (
        a_request(1, 4.0, [4.5, 5.0]),
        a_request(2, 5.0, [6.5, 7.0]),
        a_request(3, 7.0, (), "aborted", ended_ns=8 * S),
    )
    capture = a_capture(
        generations=generations,
        series=(a_counter(),),
        load=LoadReport(steady=True, client_cpu_s=0.4, queue_mean_s=0.25),
    )
    asked = open_load(1.0, slo=SloConfig(e2e_s=1.5))
    measurement = metrics.MeasurementConfig(name="m", max_gap_s=1.0)
    values = metrics.derive(capture, metrics.energy_figures(capture, measurement), asked)
    assert values["energy/total_j"] == pytest.approx(40)
    assert values["energy/per_request_j"] == pytest.approx(20)
    assert values["energy/per_good_request_j"] == pytest.approx(40)
    assert values["energy/aborted_j"] == pytest.approx(10)
    assert values["load/idle_energy_share"] == pytest.approx(1)
    assert values["load/goodput_per_s"] == pytest.approx(0.25)
    assert values["load/good_share"] == pytest.approx(1 / 3)
    assert values["load/client_cpu_pct"] == pytest.approx(10)
    assert values["load/queue_mean_s"] == 0.25
    assert values["load/aborted_count"] == 1
    assert values["latency/e2e_p95_s"] == pytest.approx(1.95)


def test_other_tokens_of_a_prompt_are_told_where_answers_share_batches(config: RunConfig) -> None:
    """In another batch a sum may be added in another order: it is no fault of the trial."""
    plain = a_capture(load=LoadReport(steady=True, client_cpu_s=0.0))
    last = dataclasses.replace(plain.generations[-1], output_ids=(1, 2, 3, 9))
    capture = dataclasses.replace(plain, generations=(*plain.generations[:-1], last))
    cells = {
        clients: a_cell(config, load=LoadConfig(name="closed", mode="closed", clients=clients))
        for clients in (1, 4)
    }
    found = {
        clients: {each.name: each for each in checks.run(a_trial(config, cell=cell), capture, ())}
        for clients, cell in cells.items()
    }
    assert found[1]["same_outputs"].passed is False
    assert found[4]["same_outputs"].passed is None
    assert found[4]["same_outputs"].detail.startswith("1 of 4 answers")


@pytest.mark.parametrize(("late_s", "kept_up"), [(None, True), (0.01, True), (0.2, False)])
def test_a_client_that_reads_late_makes_a_trial_invalid(
    config: RunConfig, late_s: float | None, kept_up: bool
) -> None:
    """Older captures do not tell how late it read."""
    window = a_window(0, 10)
    requests = [a_request(n, n, [n + 0.5]) for n in range(10)]
    capture = a_capture(
        windows=(window,),
        generations=tuple(requests),
        load=LoadReport(steady=True, client_cpu_s=0.4, reader_late_p99_s=late_s),
    )
    passed, words = load.client_kept_up(a_trial(config, cell=a_cell(config, load=OPEN)), capture)
    assert passed is kept_up
    assert ("load.late_s=0.05 allows less" in words) is not kept_up
