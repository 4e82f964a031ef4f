"""The knee is where Kleinrock's power is largest: known for queues with known latencies."""

import numpy as np
import pytest

from slm_energy.analysis.stats.knee import knee


def one_round(rates: np.ndarray, latency: np.ndarray) -> int:
    found = knee(rates[None], latency[None])
    assert found is not None
    return found[0]


def test_of_one_server_with_random_service_it_is_half_the_capacity() -> None:
    load = np.arange(0.05, 1, 0.05)
    assert load[one_round(load, 1 / (1 - load))] == pytest.approx(0.5)


def test_of_one_server_with_fixed_service_one_request_is_in_the_system() -> None:
    load = np.arange(0.01, 1, 0.01)
    latency = 1 + load / (2 * (1 - load))  # M/D/1, in times of service
    best = one_round(load, latency)
    assert load[best] == pytest.approx(2 - np.sqrt(2), abs=0.01)
    assert load[best] * latency[best] == pytest.approx(1, abs=0.02)  # Little's law


def test_every_complete_round_has_its_own() -> None:
    throughput = np.array([[1.0, 2.0, 3.0]] * 4)
    latency = np.array([[1.0, 1.1, 2.0], [1.0, 1.2, 1.9], [1.0, 1.4, 2.0], [1.0, np.nan, 2.0]])
    assert knee(throughput, latency) == (1, [1, 1, 2])


def test_it_takes_three_loads_and_a_complete_round() -> None:
    assert knee(np.ones((3, 2)), np.ones((3, 2))) is None
    assert knee(np.ones((1, 3)), np.array([[1.0, np.nan, 1.0]])) is None


def test_three_rounds_of_a_minute_show_it() -> None:
    generator = np.random.default_rng(0)
    rates, service_s, window_s = np.array([1.0, 2, 4, 6, 8, 9.5]), 0.1, 60.0

    def served(rate: float) -> tuple[float, float]:
        """Requests per second and mean latency of a window of M/D/1, after a ramp of 30 s."""
        due = np.sort(generator.uniform(-30, window_s, generator.poisson(rate * (window_s + 30))))
        waits = np.zeros(len(due))
        for i in range(1, len(due)):  # Lindley's recursion
            waits[i] = max(0.0, waits[i - 1] + service_s - (due[i] - due[i - 1]))
        return (due >= 0).sum() / window_s, float(waits[due >= 0].mean()) + service_s

    found = []
    for _ in range(40):
        study = np.array([[served(rate) for rate in rates] for _ in range(3)])
        seen = knee(study[..., 0], study[..., 1])
        assert seen is not None
        found.append(rates[seen[0]])
    assert found.count(6.0) >= 38  # in theory 5.86
