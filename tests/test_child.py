"""How a worker that left no message ended; the rest is in test_trial."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from slm_energy.child import exit_error, memory_kills

KILLED = -int(signal.SIGKILL)


@pytest.mark.parametrize(
    ("code", "before", "after", "message"),
    [
        (0, 4, 5, None),
        (7, 4, 4, "the worker ended with exit code 7 and no message"),
        (-int(signal.SIGSEGV), 4, 5, "the worker was killed by SIGSEGV"),
        (
            KILLED,
            4,
            5,
            "out of memory: the kernel ended the worker (SIGKILL); it had used up to 6.5 GB; try a"
            " smaller workload.batch_size, engine.dtype or model",
        ),
        (
            KILLED,
            4,
            4,
            "the worker was killed by SIGKILL, by somebody: the kernel counts no process ended for"
            " want of memory; it had used up to 6.5 GB",
        ),
        (
            KILLED,
            None,
            None,
            "the worker was killed by SIGKILL: the system may have run out of memory; it had used"
            " up to 6.5 GB",
        ),
    ],
)
def test_the_kernels_count_tells_who_killed_a_worker(
    code: int, before: int | None, after: int | None, message: str | None
) -> None:
    assert exit_error(code, 6_500_000_000, before, after) == message


def test_a_peak_that_is_not_known_is_not_told() -> None:
    assert "used" not in str(exit_error(KILLED, None, 4, 4))


def test_the_count_is_read_from_vmstat(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("nr_free_pages 12\noom_kill 3\noom_killer_x 9\n")
    assert memory_kills(tmp_path / "vmstat") == 3
    (tmp_path / "vmstat").write_text("nr_free_pages 12\n")
    assert memory_kills(tmp_path / "vmstat") is None
    assert memory_kills(tmp_path / "none") is None
