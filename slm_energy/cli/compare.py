"""The verb `compare`: what got worse from one study to another, for people and for CI."""

from __future__ import annotations

import argparse
import re
import sys

from slm_energy.cli import key_help
from slm_energy.cli.console import terminal
from slm_energy.cli.out import write_out
from slm_energy.config.check import tracking_group
from slm_energy.config.compose import compose
from slm_energy.errors import AnalysisError, ConfigError
from slm_energy.serialization import readable

SUMMARY = "show what got worse from study A to study B (exit code 1 if anything did)"


def configure(parser: argparse.ArgumentParser) -> None:
    """Two studies, and KEY=VALUE words."""
    parser.usage = "%(prog)s [--json] A B [KEY=VALUE ...]"
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="A and B are studies, each NAME, NAME@FOLDER or NAME@URI; KEY=VALUE sets a key",
    )
    parser.add_argument("--json", action="store_true", help="print the result for programs")
    examples = (
        ("slm-energy compare main branch allow=versions", "package versions may differ"),
        (
            "slm-energy compare main@baseline/mlruns branch fail_on=regression,missing out=gate",
            "a study of another store; Markdown, JSON and JUnit files for CI",
        ),
    )
    parser.epilog = key_help.help_text(examples, ("compare", "tracking"))


def run(arguments: argparse.Namespace) -> int:
    """Compare and print; 1 if something happened that `fail_on` names.

    Raises:
        ConfigError: two studies are not named, or an option is not valid.
        TrackingError: there is no such store or study.
        AnalysisError: the two cannot be compared.
    """
    from slm_energy.analysis import regression
    from slm_energy.analysis.render.study_comparison import files, to_terminal
    from slm_energy.running.report import open_sides

    studies = [word for word in arguments.words if "=" not in word.partition("@")[0]]
    if len(studies) != 2:
        raise ConfigError("name two studies: slm-energy compare A B, each NAME or NAME@FOLDER")
    # Hydra would take allow=a,b for a sweep.
    composed = compose(
        "compare",
        [
            re.sub(r"^(allow|fail_on|metrics)=([^\[].*)$", r"\1=[\2]", word)
            for word in arguments.words
            if word not in studies
        ],
    )
    tracking, out = tracking_group(composed), composed.pop("out")
    options = regression.options(composed)
    a, b = open_sides(studies[0], studies[1], tracking)
    result = regression.build(a, b, options)
    if arguments.json:
        sys.stdout.write(readable(result.to_json()))
    else:
        to_terminal(result, terminal())
    if out is not None:
        write_out(out, files(result))
    if result.refusal:
        raise AnalysisError(result.refusal)
    return result.exit_code
