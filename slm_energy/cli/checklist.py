"""The verb `checklist`: what reviewers ask of an energy study, answered from a stored one."""

from __future__ import annotations

import argparse

from slm_energy.cli import key_help
from slm_energy.cli.console import terminal
from slm_energy.cli.out import write_out
from slm_energy.cli.report import compose_report
from slm_energy.cli.words import add_words, overrides
from slm_energy.errors import ConfigError

SUMMARY = "answer the reporting items that reviewers ask for, from a stored study"


def configure(parser: argparse.ArgumentParser) -> None:
    """KEY=VALUE words only."""
    add_words(parser)
    examples = (
        ("slm-energy checklist study=demo", "every item with what the study says about it"),
        ("slm-energy checklist study=demo out=paper", "also checklist.md and checklist.tex"),
    )
    parser.epilog = key_help.help_text(examples, ("analysis", "tracking"))


def run(arguments: argparse.Namespace) -> int:
    """Answer and print; 0, whatever the answers are.

    Raises:
        ConfigError: an option is not valid, or `out` cannot be written.
        TrackingError: there is no such store or study, or files of it were lost.
        AnalysisError: the trials allow no report, from which most answers are taken.
    """
    from slm_energy.analysis.checklist import checklist
    from slm_energy.analysis.render.checklist import files, grids, summary
    from slm_energy.analysis.render.terminal import print_grid, print_line
    from slm_energy.running.checklist import study_facts
    from slm_energy.running.report import study_report

    words, console = overrides(arguments), terminal()
    if data := next((word for word in words if word.startswith("data=")), None):
        raise ConfigError(f"{data}: a checklist needs the records of a study: study=NAME")
    asked = compose_report(words)
    report = study_report(asked.store, asked.options, registration=asked.registration)
    items = checklist(study_facts(asked.store, report.result))
    for grid in grids(items):
        print_grid(grid.without("Asked for by"), console)
    print_line(summary(items), console)
    for gap in report.gaps:
        console.print(gap, style="yellow", soft_wrap=True, highlight=False, markup=False)
    write_out(asked.out, files(items, report.result.study))
    return 0
