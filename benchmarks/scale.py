"""Does a large study cost the parent time or memory?

    python benchmarks/scale.py [--trials 10000] [--sweep 600] [--turns 3] [--report FOLDER]

Four questions, each with a target:

    planning   seconds of `slm-energy plan` for a study that has not begun: 100 cells, and one cell
    resuming   seconds until it is known what a whole study has done, by `Store.history`: at the
               first look of this machine (cold), and when it remembers (warm); and the command
               `slm-energy plan` on it. Of SQLite, and where there is a `postgres` program, of
               PostgreSQL: spoken to directly, and behind an MLflow server
    memory     growth of the parent's resident memory over a sweep of short trials
    reporting  seconds and peak memory of `slm-energy report`, and of `slm-energy plan` at this
               machine's first look, of 16,000 trials: 80 cells of one family, 200 rounds, 0.5 % of
               the trials invalid

The trials of the whole study are copies of a real one (`copies.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import linear_regression, median_low
from typing import NamedTuple

import copies
from copies import Copy
from mlflow import MlflowClient
from report_speed import TEMPLATE, Shape, report, run_template
from report_speed import fill as fill_shape

from slm_energy.cell import Cell
from slm_energy.config.compose import compose_grid
from slm_energy.config.groups import TrackingConfig
from slm_energy.machine import machine_id
from slm_energy.planning.grid import resolve
from slm_energy.store.connection import store_uri
from slm_energy.store.tracking import Store
from slm_energy.testing import CONF

MOST_S = 5.0
MOST_MB = 0.5
LARGE, LARGE_TRIALS = Shape(models=1, engines=10, batches=8), 16_000
MOST_REPORT_S, MOST_REPORT_MB, MOST_PLAN_MB = 90.0, 1024.0, 400.0
CELLS = 100
GRID = (
    "-m",
    "engine=torch,onnx,openvino,torch_compile,torchscript",
    "workload.new_tokens=range(1,11)",
    "model.attention=eager,sdpa",
    "study.name=whole",
)
FIRST = 300
"""Trials after which every pool of memory has its size; from 50 to 300 they grow by 4 MB."""
LATER_S = 3600
"""By how much the copies began after what they are copies of."""


class Spent(NamedTuple):
    """What something took; a busy machine leaves its processor seconds nearly alike."""

    wall_s: float
    cpu_s: float
    peak_mb: float = 0.0


def plan(words: Sequence[str], folder: Path) -> Spent:
    """Seconds of `slm-energy plan`, from process start to its end."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "slm_energy", "plan", *words]
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    seconds, busy = time.perf_counter() - start, used.ru_utime + used.ru_stime
    return Spent(seconds, busy, used.ru_maxrss / 1024)


def cells_of(words: Sequence[str]) -> tuple[Cell, ...]:
    """The cells of a command line."""
    return resolve(compose_grid(words)).cells


def fill(tracking: TrackingConfig, database: str, cells: Sequence[Cell], rounds: int) -> None:
    """Make the whole study in a store that has none.

    Args:
        tracking: the store.
        database: what is behind it.
        cells: of the study.
        rounds: of the study.
    """
    run_template(tracking)
    store = Store(tracking)
    [source] = store.frame(TEMPLATE)["run_id"]
    parent = store.open_sweep("whole", "copied", machine_id(), "copies")
    store.close_sweep(parent, "FINISHED")
    experiment = MlflowClient(store_uri(tracking)).get_experiment_by_name("whole")
    assert experiment is not None
    generator = random.Random(0)
    made = (
        Copy(
            run=copies.run_id(generator),
            cell=cell.id,
            label=cell.settings.engine.name,
            model=cell.settings.model.name,
            engine=cell.settings.engine.name,
            batch=cell.settings.workload.batch_size,
            round=number // len(cells) + 1,
            number=LATER_S + number,
            factor=generator.gauss(1, 0.01),
        )
        for number, cell in enumerate(list(cells) * rounds)
    )
    copies.make(database, source, "whole", experiment.experiment_id, parent, made)


def resuming(tracking: TrackingConfig, trials: int, turns: int) -> dict[str, Spent]:
    """Median seconds of `Store.history`, cold and warm, and of the command."""

    def history() -> Spent:
        start = Spent(time.perf_counter(), time.process_time())
        found = Store(tracking).history("whole", machine_id())
        if len(found) != trials:
            raise SystemExit(f"{len(found)} of {trials} trials were found")
        return Spent(time.perf_counter() - start.wall_s, time.process_time() - start.cpu_s)

    shutil.rmtree(Path(tracking.folder) / "history", ignore_errors=True)
    cold = history()
    place = [f"tracking.folder={tracking.folder}"]
    place += [f"tracking.uri={tracking.uri}"] if tracking.uri is not None else []
    words = [*GRID, f"study.rounds={trials // CELLS}", *place]
    warm = median_low(history() for _ in range(turns))
    whole = median_low(plan(words, Path()) for _ in range(turns))
    return {"cold": cold, "warm": warm, "plan": whole}


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[str | None]:
    """A PostgreSQL of our own on loopback, as long as it is needed; None where there is none."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which(
        "postgres", path=os.pathsep.join([*map(str, programs), os.environ["PATH"]])
    )
    if found is None:
        yield None
        return
    programs_at = Path(found).resolve().parent
    # It refuses to be run by root.
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    os.chown(folder, user.pw_uid, user.pw_gid)
    who = {"user": user.pw_uid, "group": user.pw_gid} if os.geteuid() == 0 else {}
    data, port = folder / "data", free_port()
    subprocess.run(
        [programs_at / "initdb", "-D", data, "-U", "postgres", "-A", "trust"],
        cwd=folder, stdout=subprocess.DEVNULL, check=True, **who,
    )  # fmt: skip
    command = [programs_at / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port)]
    log = (folder / "log").open("w")
    server = subprocess.Popen([*command, "-k", folder], cwd=folder, stderr=log, **who)
    try:
        wait_for(port)
        yield f"postgresql+psycopg2://postgres@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # at once, whoever is connected
        server.wait()


@contextlib.contextmanager
def mlflow_server(database: str, folder: Path) -> Iterator[str]:
    """An MLflow server on loopback."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", database]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "log").open("w") as log:
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    """A port on loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Return when somebody listens there."""
    deadline = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def memory(trials: int, folder: Path) -> float:
    """MB by which the parent grows per 100 trials, from the 300th on."""
    words = ["--config-dir", str(CONF), "engine=scripted", "measurement=off", "workload.limit=3"]
    words += ["measurement.serve_s=0.1", "measurement.baseline_s=0.05", "study.reference=null"]
    words += ["workload.new_tokens=4", "study.gate.at_most_s=0", f"study.rounds={trials}"]
    sweep = subprocess.Popen(
        [sys.executable, "-m", "slm_energy", *words], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    assert sweep.stdout is not None
    status = Path(f"/proc/{sweep.pid}/status")
    seen = []
    for line in sweep.stdout:
        if line.startswith("valid") and len(seen) < trials:
            resident = next(x for x in status.read_text().splitlines() if x.startswith("VmRSS"))
            seen.append(int(resident.split()[1]) / 1024)
    if sweep.wait():
        raise SystemExit(f"the sweep ended with {sweep.returncode}")
    late = seen[FIRST:]
    return linear_regression(range(len(late)), late).slope * 100


def reporting(folder: Path) -> list[bool]:
    """Print what a report and a plan of a large study cost."""
    tracking = TrackingConfig(name="local", folder=str(folder / "mlruns"))
    store = Store(tracking)
    if store.last_sweep(TEMPLATE) is None:
        run_template(tracking)
    if store.last_sweep("large") is None:
        fill_shape(tracking, "large", LARGE_TRIALS, LARGE)
    shutil.rmtree(Path(tracking.folder) / "history", ignore_errors=True)
    planned = plan([*GRID, "study.name=large", f"tracking.folder={tracking.folder}"], folder)
    reported = Spent(*report(tracking, "large", folder / "report"))
    what = f"{LARGE_TRIALS:,} trials in {LARGE.cells} cells"
    good = [show(f"report, {what}", reported, MOST_REPORT_S)]
    for name, spent, most in (
        ("report", reported, MOST_REPORT_MB),
        ("plan, first look of this machine", planned, MOST_PLAN_MB),
    ):
        good.append(spent.peak_mb <= most)
        verdict = "" if good[-1] else "  MISSED"
        print(f"peak memory of {name}, {what}: {spent.peak_mb:.0f} MB; {most:g} MB{verdict}")
    page = folder / "report" / "report.html"
    print(f"its page: {page.stat().st_size / 1e6:.1f} MB")
    return good


def show(what: str, spent: Spent, most_s: float | None = None) -> bool:
    """Print how long something took and its target; return whether it is reached."""
    good = most_s is None or spent.wall_s <= most_s
    target = "" if most_s is None else f"{most_s:g} s" + ("" if good else "  MISSED")
    print(f"{what:<58}{spent.wall_s:>8.2f}{spent.cpu_s:>16.2f}      {target}", flush=True)
    return good


def measure_store(name: str, tracking: TrackingConfig, trials: int, turns: int) -> list[bool]:
    """Print how long it takes to resume the study in a store."""
    found = resuming(tracking, trials, turns)
    return [
        show(f"resume check, {name}, first look of this machine", found["cold"]),
        show(f"resume check, {name}", found["warm"], MOST_S),
        show(f"slm-energy plan on it, {name}", found["plan"]),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000, help=f"a multiple of {CELLS}")
    parser.add_argument("--sweep", type=int, default=600, help="trials of the sweep; 0 runs none")
    parser.add_argument("--turns", type=int, default=3, help="the median of so many is told")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="only the report and plan of"
                        " a large study, whose store is kept there and used again")  # fmt: skip
    asked = parser.parse_args()
    if asked.report is not None:
        raise SystemExit(not all(reporting(asked.report.absolute())))
    if 0 < asked.sweep < FIRST + 100:
        parser.error(f"--sweep: at least {FIRST + 100}, or growth cannot be told")
    rounds, turns = asked.trials // CELLS, asked.turns
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        grids = {
            f"planning {CELLS} cells x {rounds} rounds": [*GRID, f"study.rounds={rounds}"],
            f"planning 1 cell x {asked.trials} rounds": [f"study.rounds={asked.trials}"],
        }
        print(f"{'':<58}{'seconds':>8}{'of processor':>16}      target")
        good = [
            show(what, median_low(plan(words, folder) for _ in range(turns)), MOST_S)
            for what, words in grids.items()
        ]
        cells = cells_of(GRID)
        assert len(cells) == CELLS
        local = TrackingConfig(name="local", folder=str(folder / "mlruns"))
        fill(local, store_uri(local), cells, rounds)
        good += measure_store("SQLite", local, asked.trials, turns)
        (folder / "pg").mkdir()
        with postgresql(folder / "pg") as database:
            if database is None:
                print("PostgreSQL is not installed: not measured")
            else:
                direct = TrackingConfig(name="server", folder=str(folder / "d"), uri=database)
                fill(direct, database, cells, rounds)
                good += measure_store("PostgreSQL", direct, asked.trials, turns)
                (folder / "server").mkdir()
                with mlflow_server(database, folder / "server") as uri:
                    served = TrackingConfig(name="server", folder=str(folder / "s"), uri=uri)
                    good += measure_store("PostgreSQL, server", served, asked.trials, turns)
        good += reporting(folder)
        if asked.sweep:
            (folder / "sweep").mkdir()
            grown = memory(asked.sweep, folder / "sweep")
            good.append(grown <= MOST_MB)
            verdict = "" if good[-1] else "  MISSED"
            print(f"the parent grows by {grown:.2f} MB per 100 trials; {MOST_MB:g} MB{verdict}")
    if not all(good):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
