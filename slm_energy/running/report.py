"""Reports of stored studies: read from the store, built, kept with the study's last sweep.

Prints nothing; the command line and a notebook share it.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slm_energy.config.groups import TrackingConfig
from slm_energy.errors import AnalysisError, ConfigError, TrackingError
from slm_energy.running.stop_rule import noise_floor
from slm_energy.store.connection import exists, store_uri
from slm_energy.store.tracking import Store

if TYPE_CHECKING:
    from slm_energy.analysis.regression import Side
    from slm_energy.analysis.render.generated import Generated
    from slm_energy.analysis.result.report import Report


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StudyReport:
    """The report of a stored study.

    Attributes:
        report: the result.
        machine: whose trials it is about.
        files: what is stored and written of it, name to content.
        gaps: what the report goes without and why, one line each.
    """

    report: Report
    machine: str
    files: dict[str, bytes]
    gaps: tuple[str, ...]


def open_existing(tracking: TrackingConfig) -> Store:
    """Open a store to read it.

    Raises:
        TrackingError: there is none, or it cannot be opened.
    """
    if not exists(tracking):
        folder = shlex.quote(tracking.folder)
        raise TrackingError(f"there is no store in {folder}: set tracking.folder=DIR")
    return Store(tracking)


def study_report(
    store: Store, options: Mapping[str, Any], settled: str | None = None
) -> StudyReport:
    """Build a study's report.

    Args:
        store: has the study.
        options: the keys of conf/analysis.yaml that `slm_energy.analysis.options` accepts.
        settled: why the study has just ended before its last round, if it has; the store notes it.

    Raises:
        ConfigError: an option is not valid.
        TrackingError: there is no such study.
        AnalysisError: the trials allow no report.
    """
    from slm_energy import analysis
    from slm_energy.analysis.render.files import files
    from slm_energy.analysis.render.generated import generated

    checked = analysis.options(options)
    frame = store.frame(checked.study)
    machine = analysis.one_machine(frame, checked.study, checked.machine)
    gaps = list[str]()
    floor = None
    try:
        floor = noise_floor(store, machine)
    except AnalysisError as error:
        gaps.append(f"no noise floor: {error}")
    if settled is not None:
        store.note_stop(checked.study, machine, settled)
    stopped = store.stopped(checked.study, machine)
    report = analysis.build(frame, checked, noise_floor=floor, stopped=stopped)
    texts: tuple[Generated, ...] = ()
    try:
        texts = generated(report, store.attached)
    except TrackingError as error:  # artifacts were lost
        gaps.append(f"no generated code in the report: {error}")
    return StudyReport(report=report, machine=machine, files=files(report, texts), gaps=tuple(gaps))


def attach(made: StudyReport, store: Store, parent: str) -> str:
    """Store a report on the parent run of a sweep; return the URI of the run's artifacts."""
    from slm_energy.analysis.noise_floor import to_text

    floor = made.report.noise_floor
    if floor is not None and floor.study == made.report.study:
        store.set_noise_floor(parent, made.machine, to_text(floor))
    store.describe(parent, made.files["report.md"].decode())
    return store.attach(parent, made.files)


def open_sides(a: str, b: str, tracking: TrackingConfig) -> list[Side]:
    """Open the two studies of a comparison.

    Args:
        a: a study: NAME, NAME@FOLDER or NAME@URI.
        b: the other one.
        tracking: the store of a study that names none.

    Raises:
        ConfigError: both are the same study.
        TrackingError: there is no such store or study.
    """
    from slm_energy.analysis.regression import Side

    named = []
    for word in (a, b):
        name, _, location = word.partition("@")
        own = {"uri": location} if "://" in location else {"uri": None, "folder": location}
        named.append((name, dataclasses.replace(tracking, **own) if location else tracking))
    if len({(name, store_uri(each)) for name, each in named}) == 1:
        raise ConfigError(f"{a} and {b} are the same study: name two, each NAME or NAME@FOLDER")
    sides = []
    for word, (name, each) in zip((a, b), named, strict=True):
        if not exists(each):
            folder = shlex.quote(each.folder)
            raise TrackingError(f"{word}: no store in {folder}: set tracking.folder=DIR")
        store = Store(each)
        sides.append(Side(name=word, frame=store.frame(name), attached=store.attached))
    return sides
