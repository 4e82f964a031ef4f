"""When requests come: drawn from the stated distributions, and the same for every engine."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from slm_energy.arrivals import Arrival, arrivals, read_trace
from slm_energy.errors import WorkloadError
from tests.loads import open_load

MANY = 4000


def times(round_number: int = 1, many: int = MANY, **changes: object) -> np.ndarray:
    load = open_load(8.0, **changes)
    return np.array([each.at_s for each in itertools.islice(arrivals(load, round_number), many)])


@pytest.mark.parametrize(
    ("changes", "gaps"),
    [
        ({}, stats.expon(scale=1 / 8)),
        ({"arrivals": "gamma", "burstiness": 0.25}, stats.gamma(0.25, scale=0.5)),
        ({"arrivals": "gamma", "burstiness": 4.0}, stats.gamma(4.0, scale=1 / 32)),
    ],
)
def test_gaps_have_the_stated_distribution(changes, gaps):
    """By the Kolmogorov-Smirnov test; another distribution of the same mean fails it."""
    drawn = np.diff(times(**changes), prepend=0.0)
    assert stats.kstest(drawn, gaps.cdf).pvalue > 0.01
    assert stats.kstest(drawn, stats.gamma(1.5, scale=1 / 12).cdf).pvalue < 1e-6
    assert drawn.mean() == pytest.approx(1 / 8, abs=4 * gaps.std() / MANY**0.5)


def test_constant_gaps_do_not_drift():
    assert times(arrivals="constant") == pytest.approx(np.arange(1, MANY + 1) / 8, abs=1e-12)


def test_a_seed_and_a_round_decide_the_arrivals():
    first = times()
    assert (first == times()).all()
    assert (first != times(round_number=2)).all()
    assert (first != times(seed=1)).all()


def test_a_configured_limit_is_that_of_every_request():
    [first] = itertools.islice(arrivals(open_load(1.0, abort_after_s=0.5), 1), 1)
    assert first.abort_after_s == 0.5


def a_trace(folder: Path, text: str) -> Path:
    file = folder / "trace.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_trace_gives_times_lengths_and_aborts(tmp_path):
    file = a_trace(
        tmp_path, "arrived_s,output_tokens,input_tokens,abort_after_s\n0,8,100,\n0.5,,,2\n0.5,1,,\n"
    )
    expected = (
        Arrival(at_s=0.0, output_tokens=8, input_tokens=100),
        Arrival(at_s=0.5, abort_after_s=2.0),
        Arrival(at_s=0.5, output_tokens=1),
    )
    assert read_trace(file) == expected
    load = dataclasses.replace(open_load(), trace=str(file))
    assert tuple(arrivals(load, 1)) == tuple(arrivals(load, 2)) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("arrived_s\n1\n0.5\n", "line 3: arrived_s=0.5 is before the line above: sort the file"),
        ("arrived_s\n-1\n", "line 2: arrived_s='-1' is not a number of at least 0"),
        ("arrived_s\n1\n\n2\nnan\n", "arrived_s='nan' is not a number"),
        (
            "arrived_s,output_tokens\n1,0\n",
            "line 2: output_tokens='0' is not a whole number of at least",
        ),
        ("arrived_s,output_tokens\n1,1.5\n", "line 2: output_tokens='1.5' is not a whole number"),
        ("arrived_s\n\n", "has no request"),
        ("", "has no column arrived_s"),
        ("when\n1\n", "no such column 'when'; known: arrived_s, output_tokens"),
        ("arrived_s\n1,2\n", "line 2: more values than there are columns"),
        ("arrived_s\n1\0\n", "line 2: arrived_s="),
    ],
)
def test_a_faulty_trace_is_refused_in_one_line(tmp_path, text, words):
    file = a_trace(tmp_path, text)
    with pytest.raises(WorkloadError) as refused:
        read_trace(file)
    assert f"load.trace={file}" in str(refused.value)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_trace_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "latin.csv").write_bytes(b"arrived_s\n\xff\n")
    for name in ("missing.csv", "latin.csv", "."):
        with pytest.raises(WorkloadError, match=r"load\.trace=.* cannot be read: "):
            read_trace(tmp_path / name)
