"""slm_energy: what does a serving configuration cost a code Small Language Model, in joules?

For notebooks and scripts:

    load_trials       one row per trial: factors, outcome, metrics
    load_generations  one row per request: prompt, completion, tokens, latencies
    load_readings     one row per reading of a sensor
    plan, run         the same words as on the command line
    report, compare   verdicts, as sentences and as DataFrames
    recommend         the configuration that costs least under conditions

For packages that add an engine (entry-point group `slm_energy.engines`) or a meter
(`slm_energy.meters`): `EngineSpec`, `Engine`, `LoadRequest`, `Batch`, `Completion`, `EngineError`;
`Meter`, `MeterFactory`, `MeasurementConfig`, `Opened`, `Channel`, `Source`, `ReadFailed`.

Every error that a user can correct is a `SlmEnergyError`. Names are imported on first use, so that
`import slm_energy` is quick and loads no library.

Folders, in the order in which a study passes through them:

config    what can be set, and Hydra, which composes it
planning  what is to be run
running   an invocation: its trials one after another, here or as jobs
worker    the process that serves one trial
models    where weights come from
engines   what it serves with
devices   which GPUs there are
meters    what is read for energy and utilization; sampler reads it in a process of its own
derive    from a trial's raw facts to its metrics and checks
store     records on disk and in MLflow
analysis  from stored trials to verdicts and a report
doctor    can this machine measure?
api       what this module exports; cli is the command line
testing   fakes
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from slm_energy._version import __version__

if TYPE_CHECKING:
    from slm_energy.api.comparisons import StudyComparison, compare
    from slm_energy.api.loading import load_generations, load_readings, load_trials
    from slm_energy.api.recommendations import StudyRecommendation, recommend
    from slm_energy.api.reports import StudyReport, report
    from slm_energy.api.sweeps import StudyPlan, SweepResult, plan, run
    from slm_energy.config.groups import MeasurementConfig
    from slm_energy.engines.base import Batch, Completion, Engine, EngineSpec, LoadRequest
    from slm_energy.errors import EngineError, SlmEnergyError
    from slm_energy.meters.base import Channel, Meter, MeterFactory, Opened, ReadFailed
    from slm_energy.record import Source

__all__ = [
    "Batch",
    "Channel",
    "Completion",
    "Engine",
    "EngineError",
    "EngineSpec",
    "LoadRequest",
    "MeasurementConfig",
    "Meter",
    "MeterFactory",
    "Opened",
    "ReadFailed",
    "SlmEnergyError",
    "Source",
    "StudyComparison",
    "StudyPlan",
    "StudyRecommendation",
    "StudyReport",
    "SweepResult",
    "__version__",
    "compare",
    "load_generations",
    "load_readings",
    "load_trials",
    "plan",
    "recommend",
    "report",
    "run",
]

_MODULES = {
    "api.comparisons": ("StudyComparison", "compare"),
    "api.loading": ("load_generations", "load_readings", "load_trials"),
    "api.recommendations": ("StudyRecommendation", "recommend"),
    "api.reports": ("StudyReport", "report"),
    "api.sweeps": ("StudyPlan", "SweepResult", "plan", "run"),
    "config.groups": ("MeasurementConfig",),
    "engines.base": ("Batch", "Completion", "Engine", "EngineSpec", "LoadRequest"),
    "errors": ("EngineError", "SlmEnergyError"),
    "meters.base": ("Channel", "Meter", "MeterFactory", "Opened", "ReadFailed"),
    "record": ("Source",),
}

if not TYPE_CHECKING:  # a type checker would take any name to be here

    def __getattr__(name: str) -> object:
        """Import a public name on first use (PEP 562)."""
        for module, names in _MODULES.items():
            if name in names:
                value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
