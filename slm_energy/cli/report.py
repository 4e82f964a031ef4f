"""The verb `report`: print a study's report, store it, and write it to a folder."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.markup import escape

from slm_energy.cli import key_help
from slm_energy.cli.console import shell_path, terminal
from slm_energy.cli.out import write_out
from slm_energy.cli.study import compose_study
from slm_energy.cli.words import add_words, overrides
from slm_energy.config.check import tracking_group
from slm_energy.config.compose import compose
from slm_energy.errors import TrackingError

if TYPE_CHECKING:
    from slm_energy.analysis.render.files import RenderedFiles
    from slm_energy.running.report import StoredReport
    from slm_energy.store.tracking import Store

SUMMARY = "compare the cells of a study, or of a table measured elsewhere"


def configure(parser: argparse.ArgumentParser) -> None:
    """KEY=VALUE words only."""
    add_words(parser)
    examples = (
        ("slm-energy report study=demo out=report", "also as page, LaTeX and Parquet files"),
        ("slm-energy report data=FILE.csv columns=tidy", "a table measured elsewhere"),
    )
    parser.epilog = key_help.help_text(examples, ("analysis", "tracking"))


def run(arguments: argparse.Namespace) -> int:
    """Report on `study=NAME`, or on `data=FILE.csv`; 1 if it is incomplete or could not be stored.

    Raises:
        ConfigError: an option is not valid, or `out` cannot be written.
        TrackingError: there is no such store or study.
        AnalysisError: the trials allow no report.
    """
    from slm_energy.running.report import study_report

    words, console = overrides(arguments), terminal()
    if any(word.startswith("data=") for word in words):
        return _report_table(words, console)
    asked = compose_report(words)
    store = asked.store
    report = study_report(store, asked.options, registration=asked.registration)
    files, complete = show_report(report, store, store.last_sweep(report.result.study), console)
    return 0 if _write(asked.out, files, console) and complete else 1


class ReportRequest(NamedTuple):
    """What the words of `report study=NAME` ask for.

    Attributes:
        store: has the study.
        options: the keys of `AnalysisOptions`.
        registration: a file that was written before the study; None without one.
        out: the folder to write to; None writes nothing.
    """

    store: Store
    options: dict[str, Any]
    registration: str | None
    out: str | None


def compose_report(words: Sequence[str]) -> ReportRequest:
    """Compose the keys of conf/analysis.yaml for a stored study, and open its store.

    Raises:
        ConfigError: an option is not valid.
        TrackingError: there is no such store.
    """
    from slm_energy.analysis import options
    from slm_energy.store.tracking import open_existing

    # Hydra would take machine=a,b for a sweep.
    quoted = [re.sub(r"^machine=([^'\"]*,.*)$", r"machine='\1'", word) for word in words]
    composed = compose_study("analysis", quoted)
    del composed["data"], composed["columns"]
    out, registration = composed.pop("out"), composed.pop("registration")
    tracking = tracking_group(composed)
    options(composed)  # reports a wrong key before a missing store
    return ReportRequest(
        store=open_existing(tracking), options=composed, registration=registration, out=out
    )


def show_report(
    report: StoredReport, store: Store, parent: str | None, console: Console
) -> tuple[RenderedFiles, bool]:
    """Print a study's report, and store it on the parent run of a sweep if there is one.

    Returns:
        Its files, and whether it is complete and could be stored.
    """
    from slm_energy.analysis.render.terminal import to_terminal
    from slm_energy.running.report import attach

    to_terminal(report.result, console)
    for gap in report.gaps:
        console.print(f"[yellow]{escape(gap)}[/]", soft_wrap=True, highlight=False)
    files = report.files()
    complete = not files.failures
    if not store.writable:
        console.print("[yellow]the store is read-only: this report is not stored there[/]")
    elif parent is not None:
        try:
            place = attach(report.result, files.contents, store, parent)
            line = f"report: {escape(shell_path(f'{place}/report.html'))}"
        except TrackingError as error:
            complete, line = False, f"[yellow]this report is not stored[/]: {escape(str(error))}"
        console.print(line, soft_wrap=True, highlight=False)
    _show_failures(files, console)
    return files, complete


def _show_failures(files: RenderedFiles, console: Console) -> None:
    """Print which sections errors kept out of the report, and where the tracebacks are."""
    from slm_energy.analysis.render.files import LOG

    for failure in files.failures:
        console.print(f"[red]{escape(failure.sentence())}[/]", soft_wrap=True, highlight=False)
    if files.failures:
        line = f"the other sections are complete; {LOG} beside report.html has the tracebacks"
        console.print(f"{line} (out=FOLDER writes both)", soft_wrap=True, highlight=False)


def _report_table(words: list[str], console: Console) -> int:
    from slm_energy.analysis import external
    from slm_energy.analysis.render import external_tables
    from slm_energy.analysis.render.files import files

    composed = compose("analysis", ["study=null", *words], keys=["study"])
    del composed["tracking"]  # nothing is stored
    out = composed.pop("out")
    result = external.analyse(composed)
    external_tables.to_terminal(result, console)
    rendered = files(result.report, more=external_tables.grids(result))
    _show_failures(rendered, console)
    return 0 if _write(out, rendered, console) and not rendered.failures else 1


def _write(out: str | None, files: RenderedFiles, console: Console) -> bool:
    """Write the files, with figures for slides, if a folder is named; whether all is well."""
    from slm_energy.analysis.render.files import with_slides

    if out is None:
        return True
    whole = with_slides(files)
    write_out(out, whole.contents)
    for failure in whole.failures[len(files.failures) :]:
        console.print(f"[red]{escape(failure.sentence())}[/]", soft_wrap=True, highlight=False)
    return whole.failures == files.failures
