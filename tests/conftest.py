"""Shared by all tests: a composed configuration, and the command line on a scripted engine."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slm_energy.cell import Cell, Trial, settings
from slm_energy.config import RunConfig, run_config
from slm_energy.testing import CONF

Command = Callable[..., subprocess.CompletedProcess[str]]

# Tests run beside other programs, and not for their joules.
LENIENT = tuple(
    f"measurement.limits.{limit}=100" for limit in ("foreign_cpu_pct", "steal_pct", "throttled_pct")
)
QUICK = (
    "measurement=off",
    "study.reference=null",
    *LENIENT,
    "measurement.baseline_s=0.05",
    "measurement.serve_s=0.1",
    "workload.limit=3",
    "workload.new_tokens=4",
)


@pytest.fixture
def composed() -> dict[str, Any]:
    """The mapping that Hydra composes for a scripted engine, plain."""
    return {
        "model": {"name": "bundled", "source": "bundled"},
        "engine": {"name": "scripted"},
        "provider": {"name": "cpu"},
        "measurement": {"name": "off", "mode": "off"},
        "workload": {"name": "bundled", "source": "bundled", "new_tokens": 4},
        "study": {"name": "test", "reference": None},
        "tracking": {"name": "local"},
        "cache": {"name": "local"},
    }


@pytest.fixture
def config(composed: dict[str, Any]) -> RunConfig:
    return run_config(composed)


def a_cell(config: RunConfig, name: str = "c1", **changes: Any) -> Cell:
    """A cell of that id; changes replace whole groups of its settings."""
    return Cell(
        id=name,
        settings=dataclasses.replace(settings(config), **changes),
        model_digest="m",
        workload_digest="w",
        versions={},
    )


def a_trial(config: RunConfig, **changes: Any) -> Trial:
    """A trial of the scripted engine with the bundled model's tokenizer."""
    values: dict[str, Any] = {
        "id": "t1",
        "study": "test",
        "sweep": "s1",
        "cell": a_cell(config),
        "label": "bundled / scripted / cpu",
        "round": 1,
        "order": 1,
        "attempt": 1,
        "model_path": str(Path(__file__).parent.parent / "slm_energy" / "bundled" / "model"),
        "cache_path": "",
        "timeout_s": 60.0,
    }
    return Trial(**values | changes)


@pytest.fixture
def slm_energy(tmp_path: Path) -> Command:
    """Run `python -m slm_energy` in an empty folder, on short scripted trials."""

    def run(*words: str, quick: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        scripted = ("--config-dir", str(CONF), "engine=scripted", *QUICK) if quick else ()
        at = 1 if words and words[0] == "plan" else 0
        command = [sys.executable, "-m", "slm_energy", *words[:at], *scripted, *words[at:]]
        return subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            **options,
        )

    return run
