"""Requests that come while others are served, against a server whose service times are known."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from slm_energy.arrivals import arrivals
from slm_energy.config.groups import LoadConfig, RunConfig
from slm_energy.derive import metrics
from slm_energy.record import Capture, Generation
from slm_energy.running.trial import derive
from slm_energy.worker.loading import steady
from tests.conftest import a_trial
from tests.loads import captured, closed_load, due, open_load, scripted, serve_window

S = 1_000_000_000


def e2e_s(request: Generation) -> float:
    assert request.due_ns is not None
    return (request.token_ns[-1] - request.due_ns) / S


def test_delivered_arrivals_are_those_that_were_asked_for(config: RunConfig) -> None:
    """Due times are exactly the drawn ones; sending follows them, by Kolmogorov and Smirnov."""
    load = open_load(40.0)
    with scripted() as server:
        capture = captured(config, load, server, serve_s=4.0)
    sent = [each.start_ns for each in capture.generations]
    due_ns = [each.due_ns or 0 for each in capture.generations]
    asked_s = [each.at_s for each in itertools.islice(arrivals(load, 1), len(due_ns))]
    offsets_s = [(each - due_ns[0]) / S for each in due_ns]
    assert offsets_s == pytest.approx([each - asked_s[0] for each in asked_s], abs=1e-6)
    assert all(late >= 0 for late in np.subtract(sent, due_ns))
    assert stats.ks_2samp(np.diff(sent), np.diff(due_ns)).pvalue > 0.05
    assert stats.ks_2samp(np.diff(sent), 1.5 * np.diff(due_ns)).pvalue < 0.01
    values = metrics.derive(capture, [], load)
    assert values["load/offered_per_s"] == pytest.approx(40, abs=3 * (40 / 4) ** 0.5)
    lateness = [(each.start_ns - (each.due_ns or 0)) / S for each in due(capture)]
    assert sorted(lateness)[-4] <= values["load/client_late_p99_s"] <= max(lateness)
    assert values["load/client_cpu_pct"] > 0


def test_a_stall_shows_in_full_from_the_due_time(config: RunConfig) -> None:
    """Of constant arrivals a stall hits a known share; one client that waits sees it once."""

    def under(load: LoadConfig) -> tuple[list[float], dict[str, float]]:
        with scripted(prefill_s=0.002, token_s=0.001) as server:
            capture = captured(
                config, load, server, serve_s=2.0, at_serve=lambda: server.stall(0.5, 1.0)
            )
        return sorted(map(e2e_s, due(capture))), metrics.derive(capture, [], load)

    waits_s, values = under(open_load(50.0, arrivals="constant"))
    assert max(waits_s) >= 0.97
    # Half of the requests are due in the stall: their waits are spread evenly over its length.
    assert values["latency/e2e_p95_s"] >= 0.85
    assert np.quantile(waits_s, 0.75) >= 0.45
    seen_s, values = under(closed_load())
    assert sum(each > 0.5 for each in seen_s) == 1
    assert values["latency/e2e_p95_s"] < 0.5


def test_clients_of_a_closed_loop_think(config: RunConfig) -> None:
    """The cycle of each is its service and its pause: never more requests than clients."""
    load = closed_load(4, think_s=0.08)
    with scripted(prefill_s=0.02) as server:
        capture = captured(config, load, server, serve_s=2.0)
    values = metrics.derive(capture, [], load)
    assert 20 < values["load/delivered_per_s"] <= 4 / 0.1
    spent_s = statistics.fmean(map(e2e_s, due(capture)))
    expected = values["load/delivered_per_s"] * spent_s  # Little's law
    assert values["load/in_flight_mean_count"] == pytest.approx(expected, rel=0.1)
    edges = [(each.start_ns, 1) for each in capture.generations]
    edges += [(each.ended_ns or 0, -1) for each in capture.generations]
    assert max(itertools.accumulate(step for _, step in sorted(edges))) <= 4


def test_an_engine_in_this_process_serves_one_client(config: RunConfig) -> None:
    load = closed_load(think_s=0.01)
    capture = captured(config, load, None, serve_s=0.5)
    assert {each.ended for each in capture.generations} == {"complete"}
    assert capture.load is not None
    assert capture.load.client_cpu_s is None
    trial = a_trial(config)
    settings = dataclasses.replace(trial.cell.settings, load=load)
    cell = dataclasses.replace(trial.cell, settings=settings)
    [check] = [
        each
        for each in derive(dataclasses.replace(trial, cell=cell), capture, 0).checks
        if each.name == "client_kept_up"
    ]
    assert check.passed
    assert "the engine computes in the client's process" in check.detail


def ends(capture: Capture) -> Counter[str]:
    return Counter(each.ended for each in due(capture))


def counted(capture: Capture, load: LoadConfig) -> dict[str, float]:
    values = metrics.derive(capture, [], load)
    names = ("aborted", "refused", "failed")
    return {name: values[f"load/{name}_count"] for name in names}


def test_a_full_queue_refuses_and_every_request_is_counted(config: RunConfig) -> None:
    load = open_load(50.0, arrivals="constant")
    with scripted(prefill_s=0.1, slots=1, queue=1) as server:
        capture = captured(config, load, server, serve_s=1.0)
    offered = len(due(capture))
    assert offered >= 40
    assert counted(capture, load) == {
        "aborted": 0,
        "failed": 0,
        "refused": ends(capture)["refused"],
    }
    assert ends(capture)["complete"] + ends(capture)["refused"] == offered
    assert ends(capture)["refused"] > 20
    assert capture.load is not None
    [reason] = capture.load.reasons
    assert "the server answered 429 Too Many Requests: too many requests are waiting" in reason


def test_a_server_that_restarts_fails_some_and_refuses_some(config: RunConfig) -> None:
    load = open_load(40.0, arrivals="constant")
    with scripted(prefill_s=0.05, token_s=0.02) as server:
        capture = captured(
            config, load, server, serve_s=1.5, at_serve=lambda: server.restart(0.5, 0.4)
        )
    found = ends(capture)
    assert counted(capture, load) == {
        name: found[name] for name in ("aborted", "refused", "failed")
    }
    assert found["failed"] >= 1
    assert found["refused"] >= 5
    assert found["complete"] >= 5
    assert found.total() == len(due(capture))
    assert capture.load is not None
    assert any("503 Service Unavailable: Loading model" in each for each in capture.load.reasons)
    assert any("the stream was cut" in each for each in capture.load.reasons)


def test_an_abort_ends_decoding(config: RunConfig) -> None:
    """The server decodes what the client has seen, and a token more at most; then it stops."""
    load = open_load(20.0, abort_after_s=0.25)
    with scripted(prefill_s=0.05, token_s=0.05) as server:
        capture = captured(config, load, server, serve_s=1.5, new_tokens=40)
        for _ in range(50):  # the last connections close
            before = server.stats["tokens"]
            time.sleep(0.11)
            if server.stats["tokens"] == before:
                break
        stats_then = dict(server.stats)
        time.sleep(0.2)
        assert server.stats == stats_then
    assert ends(capture).keys() == {"aborted"}
    received = sum(len(each.output_ids) for each in capture.generations)
    cancelled = stats_then["aborted"] - len(capture.generations)  # when the load ended
    assert cancelled >= 0
    probe, most, under_way = 4, 6, len(capture.generations)
    assert received <= stats_then["tokens"] <= received + under_way + most * cancelled + probe
    assert stats_then["tokens"] < 40 * len(capture.generations) / 4
    for each in capture.generations:
        assert (each.ended_ns or 0) - each.start_ns >= S // 4
        assert 1 <= len(each.token_ns) == len(each.output_ids) <= 6 or not each.token_ns


def test_the_servers_own_queueing_time_is_known_where_it_tells_it(config: RunConfig) -> None:
    load = open_load(20.0, arrivals="constant")
    with scripted(prefill_s=0.06, slots=1) as server:
        capture = captured(config, load, server, serve_s=1.0)
    waits_s = [(each.token_ns[0] - (each.due_ns or 0)) / S - 0.06 for each in due(capture)]
    values = metrics.derive(capture, [], load)
    # The queue grows: requests that left it in the window came before the others.
    assert 0 < values["load/queue_mean_s"] < statistics.fmean(waits_s) + 0.02
    with scripted(text=True) as server:
        capture = captured(config, load, server, serve_s=0.3)
    assert "load/queue_mean_s" not in metrics.derive(capture, [], load)


def test_every_request_of_a_trace_is_sent_at_its_time(config: RunConfig, tmp_path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("arrived_s,output_tokens,abort_after_s\n0.1,2,\n0.1,7,\n0.3,40,0.2\n")
    load = open_load(trace=str(file))
    with scripted(token_s=0.02) as server:
        capture = captured(config, load, server, serve_s=0.8)
    first, second, third = capture.generations
    assert sorted((len(first.output_ids), len(second.output_ids))) == [2, 7]
    assert (third.ended, third.due_ns) == ("aborted", (first.due_ns or 0) + 200_000_000)
    assert all(check.passed is not False for check in derive_checks(config, capture, load))


def derive_checks(config: RunConfig, capture: Capture, load: LoadConfig):
    trial = a_trial(config)
    settings = dataclasses.replace(trial.cell.settings, load=load)
    trial = dataclasses.replace(trial, cell=dataclasses.replace(trial.cell, settings=settings))
    named = ("whole_workload", "token_counts", "time_stamps", "same_outputs")
    return [each for each in derive(trial, capture, 0).checks if each.name in named]


def test_a_throughput_is_steady_when_two_halves_agree() -> None:
    assert not steady([20] * 9)
    assert steady([20] * 10)
    assert not steady([0, 0, 4, 8, 12, 16, 20, 20, 20, 20])
    assert steady([0, 0, 4, 8, 12, *[20] * 10])
    assert steady([2, 0, 1, 3, 0, 1, 1, 2, 0, 1])
    assert not steady([0] * 10)


def test_a_ramp_ends_when_the_throughput_is_steady_or_at_its_cap(config: RunConfig) -> None:
    load = open_load(20.0, arrivals="constant", ramp_s=0.5)
    with scripted() as server:
        capture = captured(config, load, server, serve_s=0.2)
    ramp = capture.window("ramp")
    assert ramp is not None
    assert ramp.duration_s >= 0.5
    assert capture.load is not None
    assert not capture.load.steady
    assert ramp.end_ns <= serve_window(capture).start_ns
    assert any((each.due_ns or 0) < ramp.end_ns for each in capture.generations)
