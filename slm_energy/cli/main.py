"""The parser of the command line: which verb is meant, and how the program ends."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from typing import Protocol

import platformdirs
from rich.console import Console
from rich.markup import escape

from slm_energy import __version__
from slm_energy.cli import (
    cache,
    calibrate,
    checklist,
    compare,
    doctor,
    env,
    exit_codes,
    export,
    fetch,
    metrics,
    plan,
    recommend,
    report,
    reproduce,
    run,
    score,
    sync,
    ui,
    verify,
)
from slm_energy.cli.console import Output, occupy_standard_descriptors
from slm_energy.cli.key_help import group_lines, help_text, sweep_lines
from slm_energy.cli.words import Parser, is_override
from slm_energy.errors import ConfigError, SlmEnergyError, did_you_mean
from slm_energy.places import file_errors

PROGRAM = "slm-energy"
_USERS_FOLDERS = [
    ("XDG_CACHE_HOME", platformdirs.user_cache_dir("slm_energy")),
    ("XDG_DATA_HOME", platformdirs.user_data_dir("slm_energy")),
]


class Verb(Protocol):
    """What the module of a verb has."""

    SUMMARY: str
    """What the verb does, on one line."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the verb's options, two examples and the keys that it reads."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Carry the verb out; return the exit code."""


VERBS: dict[str, Verb] = {
    "run": run,
    "plan": plan,
    "fetch": fetch,
    "doctor": doctor,
    "calibrate": calibrate,
    "report": report,
    "recommend": recommend,
    "checklist": checklist,
    "score": score,
    "compare": compare,
    "export": export,
    "verify": verify,
    "reproduce": reproduce,
    "ui": ui,
    "sync": sync,
    "cache": cache,
    "env": env,
    "metrics": metrics,
}


def main() -> None:
    """Carry out the command line and exit."""
    occupy_standard_descriptors()
    output, errors = Output(sys.stdout), Output(sys.stderr)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            _refuse_warnings_as_errors()
            with file_errors(_USERS_FOLDERS):
                code = _run_verb(sys.argv[1:])
        except SlmEnergyError as error:
            stderr = Console(stderr=True, soft_wrap=True)
            stderr.print(f"[red]error:[/] {escape(str(error))}", highlight=False)
            code = exit_codes.STOPPED
        except KeyboardInterrupt:
            code = exit_codes.INTERRUPTED
        except SystemExit as end:  # of argparse or Hydra, after they have printed a help text
            code = int(end.code or 0)
        output.flush()
    sys.exit(code or (exit_codes.UNWRITTEN if output.lost else exit_codes.GOOD))


def _refuse_warnings_as_errors() -> None:
    """Refuse what would fail in a library, and be taken for an error in a model's files.

    Raises:
        ConfigError: Python is told to raise the warnings of libraries, such as of deprecation.
    """
    if options := [option for option in sys.warnoptions if option.startswith("error")]:
        raise ConfigError(
            f"PYTHONWARNINGS or -W {options[0]} turns warnings of libraries into errors: unset it"
        )


def _run_verb(words: Sequence[str]) -> int:
    """Parse and run; words without a verb belong to `run`.

    Raises:
        ConfigError: there is no such verb or option.
    """
    top, verbs = parsers()
    first = words[0] if words else ""
    if first in ("-h", "--help", "--version"):
        top.epilog = _epilog()
        top.parse_args([first])  # prints, and exits with 0
    is_verb = first in VERBS
    if first and not (is_verb or first.startswith("-") or is_override(first)):
        advice = did_you_mean(first, VERBS, otherwise=f"choose one of {', '.join(VERBS)}")
        raise ConfigError(f"no verb {first!r}: {advice}")
    name = first if is_verb else "run"
    VERBS[name].configure(verbs[name])
    return VERBS[name].run(verbs[name].parse_words(words[is_verb:]))


def parsers() -> tuple[Parser, dict[str, Parser]]:
    """The parser of the whole command line, and one for each verb, not configured yet."""
    top = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [VERB] [options] [KEY=VALUE ...]",
        description="What a serving configuration costs a code language model, in joules.",
    )
    version = f"{PROGRAM} {__version__}"
    top.add_argument("--version", action="version", version=version, help="print it and exit")
    verbs = top.add_subparsers(title="verbs (without one: run)", metavar="VERB", prog=PROGRAM)
    of_verbs = {
        name: verbs.add_parser(name, help=verb.SUMMARY, description=_sentence(verb.SUMMARY))
        for name, verb in VERBS.items()
    }
    for parser in of_verbs.values():
        parser.add_argument("--version", action="version", version=version, help=argparse.SUPPRESS)
    return top, of_verbs


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


def _epilog() -> str:
    examples = (
        ("slm-energy", "one trial of the bundled model"),
        ("slm-energy -m engine=torch,onnx study.rounds=5", "two engines, five rounds"),
    )
    groups = "\n".join(["groups, each chosen by GROUP=NAME:", *group_lines()])
    sweeps = "\n".join(["ready sweeps, each chosen by --config-name NAME:", *sweep_lines()])
    where = (
        "slm-energy run --help explains every key of a trial;\n"
        "slm-energy VERB --help the options and keys of a verb."
    )
    return "\n\n".join([help_text(examples), groups, sweeps, where, exit_codes.HELP])
