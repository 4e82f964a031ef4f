"""Whether stamps of tokens are steps of the server, and what is reported where they are not."""

from __future__ import annotations

import dataclasses
import statistics

import pytest

from slm_energy.config.groups import RunConfig
from slm_energy.derive import metrics, stamps
from slm_energy.record import Capture, LoadReport
from tests.captures import a_capture, a_generation
from tests.loads import captured, closed_load, scripted

S, MS = 1_000_000_000, 1_000_000
STREAMED = {"provider": "cpu", "tokens_per_event": 1}
TOKENS = 32


def answers(bunch: int, decode_ns: int | None = None, **changes: object) -> Capture:
    """10 answers of 32 tokens from 5 s on, in steps of 10 ms, read by `bunch` tokens at once."""
    generations = tuple(
        a_generation(
            f"t{number}",
            0,
            5 * S,
            output_ids=tuple(range(TOKENS)),
            token_ns=tuple(
                5 * S + 10 * MS * min(TOKENS, bunch * (n // bunch + 1)) for n in range(TOKENS)
            ),
            decode_ns=decode_ns,
        )
        for number in range(10)
    )
    return a_capture(generations=generations, effective=STREAMED, **changes)


def test_tokens_that_are_a_step_apart_are_stamped_well() -> None:
    passed, words = stamps.reliable(answers(bunch=1))
    assert passed
    assert words == "0 % of the gaps between tokens are below 10 % of the median step (10 ms)"


@pytest.mark.parametrize("bunch", [2, 4, 16])
def test_tokens_that_were_read_together_are_flagged(bunch: int) -> None:
    passed, words = stamps.reliable(answers(bunch))
    assert passed is False
    together = 100 * (TOKENS - TOKENS // bunch) / (TOKENS - 1)
    assert words.startswith(f"{together:.3g} % of the gaps between tokens are below 10 % of")
    assert words.endswith("stamps of tokens are unreliable")


def test_an_answer_that_comes_as_a_whole_is_flagged_by_the_servers_own_times() -> None:
    assert stamps.reliable(answers(TOKENS, decode_ns=310 * MS))[0] is False


def test_a_few_delays_make_up_for_each_other() -> None:
    """One token in 25 is read together with the next."""
    late = tuple(5 * S + 10 * MS * (n + (n % 25 == 0)) for n in range(1, TOKENS + 1))
    capture = answers(bunch=1)
    one = dataclasses.replace(capture.generations[0], token_ns=late)
    assert stamps.reliable(dataclasses.replace(capture, generations=(one,)))[0]


def test_engines_that_stamp_their_own_tokens_are_not_asked() -> None:
    assert stamps.reliable(a_capture())[0] is None


def test_times_between_tokens_are_reported_only_where_stamps_are_reliable() -> None:
    good = metrics.derive(answers(bunch=1), [])
    assert good["latency/itl_p50_s"] == pytest.approx(0.01)
    assert good["latency/ttft_p50_s"] == pytest.approx(0.01)
    names = {name for name in metrics.derive(answers(bunch=8), []) if name.startswith("latency")}
    assert names == {name for name in good if name.startswith("latency/e2e")}


def test_a_servers_own_times_stand_in_for_unreliable_stamps() -> None:
    values = metrics.derive(answers(bunch=8, decode_ns=310 * MS), [])
    assert values["latency/tpot_p50_s"] == pytest.approx(0.01)
    assert "latency/itl_p50_s" not in values


def test_under_load_first_tokens_count_because_the_reader_is_known_to_have_kept_up() -> None:
    capture = answers(bunch=8)
    due = tuple(dataclasses.replace(each, due_ns=each.start_ns) for each in capture.generations)
    report = LoadReport(steady=True, client_cpu_s=0.1, reader_late_p99_s=0.001)
    loaded = dataclasses.replace(capture, generations=due, load=report)
    values = metrics.derive(loaded, [], closed_load())
    assert values["latency/ttft_p50_s"] == pytest.approx(0.08)
    assert "latency/itl_p50_s" not in values
    assert values["load/reader_late_p99_s"] == 0.001


def test_streams_of_a_server_are_read_as_they_come(config: RunConfig) -> None:
    """Four at once, a token of each every 10 ms; the server's own times agree with the stamps."""
    with scripted(prefill_s=0.01, token_s=0.01) as server:
        capture = captured(config, closed_load(4), server, serve_s=1.0, new_tokens=16)
    passed, words = stamps.reliable(capture)
    assert passed, words
    timed = [each for each in capture.generations if each.decode_ns is not None]
    assert len(timed) > 10
    apart = [each.decode_ns - (each.token_ns[-1] - each.token_ns[0]) for each in timed]
    assert abs(statistics.median(apart)) < 5 * MS  # a single one may wait for the processor
    assert capture.load is not None
    assert 0 < (capture.load.reader_late_p99_s or 0) < 0.05
