"""The command line: the Hydra app that runs trials, and the verbs beside it.

    slm-energy [-m] [KEY=VALUE ...]       run one trial, or a grid
    slm-energy plan [-m] [KEY=VALUE ...]  show the grid, run nothing
    slm-energy doctor [--json] [...]      can this machine measure?
    slm-energy report study=NAME [...]    compare the cells of a study
    slm-energy report data=FILE.csv [...] the same of a table that somebody else measured
    slm-energy compare A B [--json] [...] what got worse from study A to study B?
    slm-energy ui [tracking.folder=DIR]   browse the runs
    slm-energy sync [FOLDER] [tracking=NAME ...]  send records that wait on disk to the store
    slm-energy cache [clear [KIND|KEY ...]] what was derived from weights: list, remove
    slm-energy env create|list|remove     Python environments that engine.python=NAME uses

Exit codes: 0 all went well, 1 some trial did not or something got worse, 2 the command cannot be
carried out, 130 Ctrl-C.
Everything heavy is imported inside the verb that needs it.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from slm_energy.compose import compose, run_app
from slm_energy.config import RunConfig, TrackingConfig
from slm_energy.errors import AnalysisError, ConfigError, SlmEnergyError, TrackingError
from slm_energy.plain import from_plain, readable, write_files

if TYPE_CHECKING:
    from slm_energy.analysis.across import Side
    from slm_energy.analysis.output.generated import Generated
    from slm_energy.analysis.result import Report
    from slm_energy.tracking import Store


def main() -> None:
    """Carry out the command line and exit."""
    arguments = sys.argv[1:]
    verbs = {
        "plan": _plan,
        "doctor": _doctor,
        "report": _report,
        "compare": _compare,
        "ui": _ui,
        "sync": _sync,
        "cache": _cache,
        "env": _env,
    }
    try:
        if arguments and arguments[0] in verbs:
            code = verbs[arguments[0]](arguments[1:])
        else:
            code = run_app(_run, arguments)
    except SlmEnergyError as error:
        stderr = Console(stderr=True, soft_wrap=True)
        stderr.print(f"[red]error:[/] {escape(str(error))}", highlight=False)
        code = 2
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # Whoever read the output has enough of it (`| head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _run(configs: list[RunConfig]) -> int:
    from slm_energy import sofar, sweep
    from slm_energy.grid import resolve
    from slm_energy.show import show_ended
    from slm_energy.tracking import Store

    console, grid = _console(), resolve(configs)
    ended = sweep.run(grid, console, sofar.stopping_rule(grid, console))
    show_ended(ended, console)
    if ended.interrupted:
        console.print("interrupted: run the same command again to go on")
        return 130
    config = configs[0]
    if config.tracking.offline:
        folder = Path(config.tracking.folder).absolute()
        console.print(f"slm-energy sync {folder} tracking=NAME sends the records", soft_wrap=True)
        return 0 if ended.all_valid else 1
    store, study = Store(config.tracking), {"study": config.study.name}
    try:
        _show_report(store, study, ended.parent, console, ended.settled)
    except AnalysisError as error:
        console.print(f"no report: {escape(str(error))}", soft_wrap=True)
    console.print(f"browse the runs: [bold]{_ui_words(config.tracking)}[/]", soft_wrap=True)
    return 0 if ended.all_valid else 1


def _console() -> Console:
    """The terminal; a file or a pipe gets lines of 100 characters."""
    return Console(width=None if sys.stdout.isatty() else 100)


def _ui_words(tracking: TrackingConfig) -> str:
    from slm_energy.access import is_server

    if tracking.uri is not None and is_server(tracking.uri):
        return tracking.uri
    changed = "" if tracking.folder == "mlruns" else f" tracking.folder={tracking.folder}"
    changed += "" if tracking.uri is None else f" tracking.uri={tracking.uri}"
    return f"{sys.executable} -m slm_energy ui{changed}"


def _show_report(
    store: Store,
    options: Mapping[str, Any],
    parent: str | None,
    console: Console,
    settled: str | None = None,
) -> dict[str, bytes]:
    """Print a study's report and store its files on a sweep's parent run; return them.

    `settled` says why the study has just ended before its last round, if it has.
    """
    from slm_energy import analysis, sofar
    from slm_energy.analysis.noise import to_text
    from slm_energy.analysis.output.files import files

    asked = analysis.options(options)
    frame = store.frame(asked.study)
    machine = analysis.one_machine(frame, asked.study, asked.machine)
    floor = sofar.noise_floor(store, machine, console)
    if settled is not None:
        store.note_stop(asked.study, machine, settled)
    stopped = store.stopped(asked.study, machine)
    report = analysis.build(frame, asked, noise_floor=floor, stopped=stopped)
    report.to_terminal(console)
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
    from slm_energy.analysis.output.generated import generated

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


def _plan(arguments: Sequence[str]) -> int:
    return run_app(_show_plan, arguments)


def _show_plan(configs: list[RunConfig]) -> int:
    from slm_energy import sofar, sweep
    from slm_energy.grid import resolve
    from slm_energy.machine import machine_id
    from slm_energy.show import show_plan
    from slm_energy.tracking import Store, exists

    console, grid = _console(), resolve(configs)
    tracking, here = grid.config.tracking, machine_id()
    floor = sofar.noise_floor(Store(tracking), here, console) if exists(tracking) else None
    plan = sweep.preview(grid)
    settled = sofar.told(grid, here) if plan.with_status("done") else None
    show_plan(plan, console, floor, settled)
    return 0


def _doctor(arguments: Sequence[str]) -> int:
    def look(configs: list[RunConfig]) -> int:
        from slm_energy import doctor

        waiting = Console(stderr=True)
        with tempfile.TemporaryDirectory() as folder, waiting.status("looking ..."):
            diagnosis = doctor.examine(configs[0], Path(folder))
        if "--json" in arguments:
            sys.stdout.write(readable(diagnosis.to_json()))
        else:
            doctor.show(diagnosis, _console())
        return diagnosis.exit_code

    return run_app(look, [word for word in arguments if word != "--json"])


def _report(arguments: Sequence[str]) -> int:
    if any(word.startswith("data=") for word in arguments):
        return _report_foreign(arguments)
    from slm_energy.analysis import options
    from slm_energy.tracking import Store, exists

    asked = compose("analysis", arguments, keys=["study"])
    del asked["data"], asked["columns"]
    out, tracking = asked.pop("out"), _tracking(asked)
    options(asked)  # what is wrong with them is said first
    if not exists(tracking):
        raise TrackingError(f"there is no store in {tracking.folder}: set tracking.folder=DIR")
    store = Store(tracking)
    _write(out, _show_report(store, asked, store.last_sweep(asked["study"]), _console()))
    return 0


def _report_foreign(arguments: Sequence[str]) -> int:
    from slm_energy.analysis import foreign
    from slm_energy.analysis.output.files import files

    asked = compose("analysis", ["study=null", *arguments], keys=["study"])
    del asked["tracking"]  # nothing is stored
    out = asked.pop("out")
    found = foreign.analyse(asked)
    foreign.show(found, _console())
    _write(out, files(found.report, more=foreign.grids(found)))
    return 0


def _compare(arguments: Sequence[str]) -> int:
    from slm_energy.analysis import across

    words = [word for word in arguments if word != "--json"]
    if len(words) < 2 or any("=" in word.partition("@")[0] for word in words[:2]):
        raise ConfigError("name two studies: slm-energy compare A B, each NAME or NAME@FOLDER")
    # Hydra would take allow=a,b for a sweep.
    listed = [re.sub(r"^(allow|metrics)=([^\[].*)$", r"\1=[\2]", word) for word in words[2:]]
    asked = compose("compare", listed)
    tracking = _tracking(asked)
    options = across.options(asked)
    a, b = _sides(words[0], words[1], tracking)
    result = across.build(a, b, options)
    if "--json" in arguments:
        sys.stdout.write(readable(result.to_json()))
    else:
        result.to_terminal(_console())
    if result.refusal:
        raise AnalysisError(result.refusal)
    return result.exit_code


def _sides(a: str, b: str, tracking: TrackingConfig) -> list[Side]:
    """Open two studies, each NAME, NAME@FOLDER or NAME@URI."""
    from slm_energy.analysis.across import Side
    from slm_energy.tracking import Store, exists, store_uri

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


def _ui(arguments: Sequence[str]) -> int:
    from slm_energy.access import is_server
    from slm_energy.tracking import Store, ui_command

    asked = compose("ui", arguments)
    tracking, console = _tracking(asked), _console()
    if tracking.uri is not None and is_server(tracking.uri):
        console.print(f"this store has its own UI: {tracking.uri}", soft_wrap=True)
        return 0
    Store(tracking)
    command, environment = ui_command(tracking, int(asked["port"]))
    console.print(f"MLflow UI on http://127.0.0.1:{asked['port']} (Ctrl-C ends it)", soft_wrap=True)
    sys.stdout.flush()
    # The server takes this process's place, so that no signal leaves it behind.
    os.execve(command[0], command, environment)


def _sync(arguments: Sequence[str]) -> int:
    from slm_energy.sync import sync_verb

    return sync_verb(arguments, _console())


def _cache(arguments: Sequence[str]) -> int:
    from slm_energy.housekeeping import cache_verb

    return cache_verb(arguments, _console())


def _env(arguments: Sequence[str]) -> int:
    from slm_energy.housekeeping import env_verb

    return env_verb(arguments, _console())


def _tracking(asked: dict[str, Any]) -> TrackingConfig:
    """Take the tracking group out of a composed configuration."""
    try:
        return from_plain(TrackingConfig, asked.pop("tracking"))
    except ValueError as error:
        raise ConfigError(f"tracking: {error}") from None


if __name__ == "__main__":
    main()
