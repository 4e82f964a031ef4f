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

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from slm_energy.config.check import tracking_group
from slm_energy.config.compose import compose, compose_grid
from slm_energy.config.groups import TrackingConfig
from slm_energy.errors import AnalysisError, SlmEnergyError
from slm_energy.serialization import readable


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
            code = _run(arguments)
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


def _run(arguments: Sequence[str]) -> int:
    from slm_energy.cli.reports import show_report
    from slm_energy.cli.show import show_ended
    from slm_energy.planning.grid import resolve
    from slm_energy.running import stop_rule, sweep
    from slm_energy.store.tracking import Store

    configs = compose_grid(arguments)
    if not configs:  # Hydra printed what it was asked for
        return 0
    console, grid = _console(), resolve(configs)
    ended = sweep.run(grid, console, stop_rule.stopping_rule(grid, console))
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
        show_report(store, study, ended.parent, console, ended.stop_reason)
    except AnalysisError as error:
        console.print(f"no report: {escape(str(error))}", soft_wrap=True)
    console.print(f"browse the runs: [bold]{_ui_words(config.tracking)}[/]", soft_wrap=True)
    return 0 if ended.all_valid else 1


def _console() -> Console:
    """The terminal; a file or a pipe gets lines of 100 characters."""
    return Console(width=None if sys.stdout.isatty() else 100)


def _ui_words(tracking: TrackingConfig) -> str:
    from slm_energy.store.access import is_server

    if tracking.uri is not None and is_server(tracking.uri):
        return tracking.uri
    changed = "" if tracking.folder == "mlruns" else f" tracking.folder={tracking.folder}"
    changed += "" if tracking.uri is None else f" tracking.uri={tracking.uri}"
    return f"{sys.executable} -m slm_energy ui{changed}"


def _plan(arguments: Sequence[str]) -> int:
    from slm_energy.cli.show import show_plan
    from slm_energy.machine import machine_id
    from slm_energy.planning.grid import resolve
    from slm_energy.running import stop_rule
    from slm_energy.running.resume import current_plan
    from slm_energy.store.connection import exists
    from slm_energy.store.tracking import Store

    configs = compose_grid(arguments)
    if not configs:
        return 0
    console, grid = _console(), resolve(configs)
    tracking, here = grid.config.tracking, machine_id()
    with console.status("looking up what is done ..."):
        floor = stop_rule.noise_floor(Store(tracking), here, console) if exists(tracking) else None
        plan = current_plan(grid)
        settled = stop_rule.status(grid, here) if plan.with_status("done") else None
    show_plan(plan, console, floor, settled)
    return 0


def _doctor(arguments: Sequence[str]) -> int:
    from slm_energy import doctor

    configs = compose_grid([word for word in arguments if word != "--json"])
    if not configs:
        return 0
    waiting = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder, waiting.status("looking ..."):
        diagnosis = doctor.examine(configs[0], Path(folder))
    if "--json" in arguments:
        sys.stdout.write(readable(diagnosis.to_json()))
    else:
        doctor.show(diagnosis, _console())
    return diagnosis.exit_code


def _report(arguments: Sequence[str]) -> int:
    from slm_energy.cli.reports import report_verb

    return report_verb(arguments, _console())


def _compare(arguments: Sequence[str]) -> int:
    from slm_energy.cli.reports import compare_verb

    return compare_verb(arguments, _console())


def _ui(arguments: Sequence[str]) -> int:
    from slm_energy.store.access import is_server
    from slm_energy.store.connection import ui_command
    from slm_energy.store.tracking import Store

    asked = compose("ui", arguments)
    tracking, console = tracking_group(asked), _console()
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
    from slm_energy.store.sync import sync_verb

    return sync_verb(arguments, _console())


def _cache(arguments: Sequence[str]) -> int:
    from slm_energy.cli.housekeeping import cache_verb

    return cache_verb(arguments, _console())


def _env(arguments: Sequence[str]) -> int:
    from slm_energy.cli.housekeeping import env_verb

    return env_verb(arguments, _console())


if __name__ == "__main__":
    main()
