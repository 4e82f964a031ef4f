"""All items of the checklist, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from slm_energy.analysis.checklist import evidence, procedure, setup, work
from slm_energy.analysis.checklist.facts import Facts
from slm_energy.analysis.checklist.item import Answer, Item


class Entry(NamedTuple):
    """An item without its answer.

    Attributes:
        group: heading that it stands under.
        name: in a few words.
        sources: who asks for it.
        answer: takes it from a study; its docstring says what is asked.
    """

    group: str
    name: str
    sources: tuple[str, ...]
    answer: Callable[[Facts], Answer]


_MACHINE, _RUNS, _WORK, _STATISTICS, _CHECKING = (
    "Machine and sensors",
    "Procedure",
    "Models and work",
    "Statistics",
    "Checking by others",
)
ENTRIES = (
    Entry(_MACHINE, "Hardware", ("Ardito", "Cruz", "MLPerf rules"), setup.machine),
    Entry(_MACHINE, "Energy sensors", ("Ardito", "EEHPC", "MLPerf rules"), setup.sensors),
    Entry(_MACHINE, "Scope of the joules", ("Full stack", "Durán"), setup.scope),
    Entry(_MACHINE, "Sampling", ("MLPerf rules",), setup.sampling),
    Entry(_MACHINE, "Comparison with a reference", ("MLPerf training",), setup.compared),
    Entry(_MACHINE, "Uncertainty of a figure", ("MLPerf rules",), setup.uncertainty),
    Entry(_RUNS, "Warm-up", ("Cruz", "GMT", "Durán"), procedure.warm_up),
    Entry(_RUNS, "Idle baseline", ("GMT", "Durán"), procedure.baseline),
    Entry(_RUNS, "Length of the window", ("MLPerf Power",), procedure.window),
    Entry(_RUNS, "Repetitions", ("Cruz",), procedure.repetitions),
    Entry(_RUNS, "Order", ("Cruz", "Green Lab", "Durán"), procedure.order),
    Entry(_RUNS, "Rest between trials", ("Cruz", "GMT", "Durán"), procedure.rest),
    Entry(_RUNS, "Isolation", ("Cruz", "GMT", "Durán"), procedure.isolation),
    Entry(_RUNS, "Frequency policy", ("Cruz", "GMT"), procedure.frequency),
    Entry(_RUNS, "Temperature", ("Cruz",), procedure.temperature),
    Entry(_RUNS, "Noise floor", ("GMT",), procedure.noise_floor),
    Entry(_RUNS, "Drift", ("GMT", "Durán"), procedure.drift),
    Entry(_RUNS, "Trials that do not count", ("MLPerf rules", "Durán"), procedure.accounted),
    Entry(_RUNS, "Automation", ("Cruz", "MLPerf rules"), procedure.automation),
    Entry(_WORK, "Models and revisions", ("LLM guidelines", "Durán"), work.models),
    Entry(_WORK, "Engines and versions", ("Cruz", "Engines"), work.engines),
    Entry(_WORK, "Settings in force", ("MLPerf rules", "Durán"), work.in_force),
    Entry(_WORK, "Precision", ("Quantised", "Durán"), work.precision),
    Entry(_WORK, "Decoding", ("LLM guidelines", "Durán"), work.decoding),
    Entry(_WORK, "Prompts", ("LLM guidelines", "AI Energy Score"), work.prompts),
    Entry(_WORK, "Load", ("ML.ENERGY",), work.load),
    Entry(_WORK, "Same tokens", ("ML.ENERGY", "Engines", "Durán"), work.same_tokens),
    Entry(_WORK, "Correctness of answers", ("Per goal",), work.correctness),
    Entry(_STATISTICS, "Tests and correction", ("Cruz", "Durán"), evidence.tests),
    Entry(_STATISTICS, "Effect sizes", ("Cruz", "Durán"), evidence.effects),
    Entry(_STATISTICS, "Distribution and outliers", ("Cruz",), evidence.distribution),
    Entry(_STATISTICS, "Detectable difference", ("Cruz",), evidence.power),
    Entry(_STATISTICS, "Declared beforehand", ("Cruz",), evidence.beforehand),
    Entry(_CHECKING, "Frozen plan", ("Cruz", "MLPerf rules", "Durán"), evidence.frozen),
    Entry(_CHECKING, "Code", ("ACM",), evidence.code),
    Entry(_CHECKING, "Raw data", ("ACM",), evidence.data),
    Entry(_CHECKING, "Carbon", ("SCI", "BoAmps"), evidence.carbon),
    Entry(_CHECKING, "Threats to validity", ("LLM guidelines",), evidence.threats),
)


def checklist(facts: Facts) -> tuple[Item, ...]:
    """Answer every item from a study."""
    return tuple(
        Item(group=e.group, name=e.name, sources=e.sources, answer=e.answer(facts)) for e in ENTRIES
    )
