"""The verbs `report` and `compare`, and the report that a sweep ends with."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from slm_energy.config.check import tracking_group
from slm_energy.config.compose import compose
from slm_energy.config.groups import TrackingConfig
from slm_energy.errors import AnalysisError, ConfigError, TrackingError
from slm_energy.serialization import readable, write_files

if TYPE_CHECKING:
    from slm_energy.analysis.regression import Side
    from slm_energy.analysis.render.generated import Generated
    from slm_energy.analysis.result.report import Report
    from slm_energy.store.tracking import Store


def show_report(
    store: Store,
    options: Mapping[str, Any],
    parent: str | None,
    console: Console,
    settled: str | None = None,
) -> dict[str, bytes]:
    """Print a study's report and store its files on a sweep's parent run; return them.

    `settled` says why the study has just ended before its last round, if it has.
    """
    from slm_energy import analysis
    from slm_energy.analysis.noise_floor import to_text
    from slm_energy.analysis.render.files import files
    from slm_energy.analysis.render.terminal import to_terminal
    from slm_energy.running import stop_rule

    asked = analysis.options(options)
    frame = store.frame(asked.study)
    machine = analysis.one_machine(frame, asked.study, asked.machine)
    floor = stop_rule.noise_floor(store, machine, console)
    if settled is not None:
        store.note_stop(asked.study, machine, settled)
    stopped = store.stopped(asked.study, machine)
    report = analysis.build(frame, asked, noise_floor=floor, stopped=stopped)
    to_terminal(report, console)
    found = files(report, _generated(store, report, console))
    if parent is not None:
        if report.noise_floor is not None and report.noise_floor.study == report.study:
            store.set_noise_floor(parent, machine, to_text(report.noise_floor))
        store.describe(parent, found["report.md"].decode())
        place = store.attach(parent, found).removeprefix("file://")
        console.print(f"report: {place}/report.html", soft_wrap=True, highlight=False)
    return found


def _generated(store: Store, report: Report, console: Console) -> tuple[Generated, ...]:
    """What models wrote; the report goes without where artifacts were lost."""
    from slm_energy.analysis.render.generated import generated

    try:
        return generated(report, store.attached)
    except TrackingError as error:
        console.print(f"no generated code in the report: {escape(str(error))}", soft_wrap=True)
        return ()


def _write(out: str | None, found: Mapping[str, bytes]) -> None:
    """Write a report's files to the folder that was asked for."""
    if out is None:
        return
    try:
        write_files(Path(out), found)
    except OSError as error:
        raise ConfigError(f"out={out} cannot be written: {error.strerror or error}") from error


def report_verb(arguments: Sequence[str], console: Console) -> int:
    """`report study=NAME [KEY=VALUE ...]`, or `report data=FILE.csv [KEY=VALUE ...]`; returns 0.

    Raises:
        ConfigError: an option is not valid, or `out` cannot be written.
        TrackingError: there is no such store or study.
        AnalysisError: the trials allow no report.
    """
    if any(word.startswith("data=") for word in arguments):
        return _report_foreign(arguments, console)
    from slm_energy.analysis import options
    from slm_energy.store.connection import exists
    from slm_energy.store.tracking import Store

    asked = compose("analysis", arguments, keys=["study"])
    del asked["data"], asked["columns"]
    out, tracking = asked.pop("out"), tracking_group(asked)
    options(asked)  # what is wrong with them is said first
    if not exists(tracking):
        raise TrackingError(f"there is no store in {tracking.folder}: set tracking.folder=DIR")
    store = Store(tracking)
    _write(out, show_report(store, asked, store.last_sweep(asked["study"]), console))
    return 0


def _report_foreign(arguments: Sequence[str], console: Console) -> int:
    from slm_energy.analysis import external
    from slm_energy.analysis.render import external_tables
    from slm_energy.analysis.render.files import files

    asked = compose("analysis", ["study=null", *arguments], keys=["study"])
    del asked["tracking"]  # nothing is stored
    out = asked.pop("out")
    found = external.analyse(asked)
    external_tables.to_terminal(found, console)
    _write(out, files(found.report, more=external_tables.grids(found)))
    return 0


def compare_verb(arguments: Sequence[str], console: Console) -> int:
    """`compare A B [--json] [KEY=VALUE ...]`; 1 if something got worse.

    Raises:
        ConfigError: two studies are not named, or an option is not valid.
        TrackingError: there is no such store or study.
        AnalysisError: the two cannot be compared.
    """
    from slm_energy.analysis import regression
    from slm_energy.analysis.render import study_comparison

    words = [word for word in arguments if word != "--json"]
    if len(words) < 2 or any("=" in word.partition("@")[0] for word in words[:2]):
        raise ConfigError("name two studies: slm-energy compare A B, each NAME or NAME@FOLDER")
    # Hydra would take allow=a,b for a sweep.
    listed = [re.sub(r"^(allow|metrics)=([^\[].*)$", r"\1=[\2]", word) for word in words[2:]]
    asked = compose("compare", listed)
    tracking = tracking_group(asked)
    options = regression.options(asked)
    a, b = _sides(words[0], words[1], tracking)
    result = regression.build(a, b, options)
    if "--json" in arguments:
        sys.stdout.write(readable(result.to_json()))
    else:
        study_comparison.to_terminal(result, console)
    if result.refusal:
        raise AnalysisError(result.refusal)
    return result.exit_code


def _sides(a: str, b: str, tracking: TrackingConfig) -> list[Side]:
    """Open two studies, each NAME, NAME@FOLDER or NAME@URI."""
    from slm_energy.analysis.regression import Side
    from slm_energy.store.connection import exists, store_uri
    from slm_energy.store.tracking import Store

    named = []
    for word in (a, b):
        name, _, place = word.partition("@")
        own = {"uri": place} if "://" in place else {"uri": None, "folder": place}
        named.append((name, dataclasses.replace(tracking, **own) if place else tracking))
    if len({(name, store_uri(where)) for name, where in named}) == 1:
        raise ConfigError(f"{a} and {b} are the same study: name two, each NAME or NAME@FOLDER")
    sides = []
    for word, (name, where) in zip((a, b), named, strict=True):
        if not exists(where):
            raise TrackingError(f"{word}: no store in {where.folder}: set tracking.folder=DIR")
        store = Store(where)
        sides.append(Side(name=word, frame=store.frame(name), attached=store.attached))
    return sides
