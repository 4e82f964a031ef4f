"""Does a study survive a bad network between its sweeps and the tracking server?

    python benchmarks/proxy_faults.py [--faults 110] [--share 0.1] [--seed 0]

A proxy lets a share of the requests fail, each kind of fault (`fault_proxy.py`) equally often,
while sweeps over two scripted cells and `slm-energy sync` run in turn. When all faults have struck,
`sync` sends what waits, the last sweep is repeated, and the study is examined (`soundness.py`), as
the server has it. A run that was deleted must say why.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import soundness
from fault_proxy import FAULTS, Fault, FaultProxy
from mlflow import MlflowClient
from mlflow.entities import ViewType
from scale import mlflow_server

from slm_energy.store.connection import create, database_uri
from slm_energy.testing import CONF

WORDS = """
    -m engine=scripted engine.decode=session,generate measurement=off study.reference=null
    study.sandbox=off study.gate.at_most_s=0 measurement.limits.foreign_cpu_pct=100
    measurement.limits.steal_pct=100 measurement.limits.throttled_pct=100
    measurement.baseline_s=0.05 measurement.serve_s=0.05 workload.limit=3 workload.new_tokens=4
"""
MLFLOW = {"TIMEOUT": "5", "BACKOFF_FACTOR": "0", "BACKOFF_JITTER": "0"}
"""Of each request: it fails soon, and is repeated at once."""
ROUNDS_AT_ONCE = 2


class Draw:
    """Each fault equally often, in random order, at a share of the requests."""

    def __init__(self, faults: int, share: float, chance: random.Random) -> None:
        whole = [*FAULTS] * (-(-faults // len(FAULTS)))
        self.left = chance.sample(whole, faults)
        self._share, self._chance = share, chance

    def __call__(self, path: str) -> Fault | None:
        """The fault of the next request."""
        return self.left.pop() if self.left and self._chance.random() < self._share else None


def main() -> None:
    """Run, count, print; exit with 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=110)
    parser.add_argument("--share", type=float, default=0.1, help="of the requests that fail")
    parser.add_argument("--seed", type=int, default=0, help="decides which fail, and how")
    asked = parser.parse_args()
    os.environ |= {f"MLFLOW_HTTP_REQUEST_{name}": value for name, value in MLFLOW.items()}
    begun = time.monotonic()
    draw = Draw(asked.faults, asked.share, random.Random(asked.seed))
    with tempfile.TemporaryDirectory(prefix="proxy") as name:
        folder = Path(name)
        for each in ("server", "mlruns"):
            (folder / each).mkdir()
        create(folder / "server" / "mlflow.db")
        database = database_uri(folder / "server" / "mlflow.db")
        with (
            mlflow_server(database, folder / "server") as server,
            FaultProxy(server, draw, late_s=6) as proxy,
        ):
            ended, texts, rounds = run(folder, proxy.uri, draw)
            found = soundness.examine(folder, cells=2, rounds=rounds, uri=server)
            deleted, found["untold"] = deleted_runs(server)
    found["exit code"] = texts
    print(f"{len(proxy.done)} faults in {time.monotonic() - begun:.0f} s; seed {asked.seed}")
    print(f"{2 * rounds} trials, {deleted} runs deleted as twins or incomplete")
    print(
        f"commands ended with {', '.join(f'{code} ({n})' for code, n in sorted(ended.items()))}\n"
    )
    for fault, count in Counter(fault for fault, _ in proxy.done).items():
        print(f"{fault:<16}{count:>6}")
    print()
    for kind, lines in found.items():
        print(f"{kind:<16}{len(lines):>6}  {'; '.join(lines[:3])}")
    sys.exit(any(found.values()))


def run(folder: Path, uri: str, draw: Draw) -> tuple[Counter[int], list[str], int]:
    """Sweep and send until no fault is left, then once more without one.

    Returns:
        Exit codes, what was wrong with them or with what was said, and the number of rounds.
    """
    ended, wrong, rounds = Counter[int](), list[str](), 0
    to_server = ("tracking=server", f"tracking.uri={uri}")
    while True:
        rounds += 0 if ended and not draw.left else ROUNDS_AT_ONCE
        faulty = bool(draw.left)
        sweep = ("--config-dir", str(CONF), *WORDS.split(), f"study.rounds={rounds}", *to_server)
        for words in (("sync", *to_server), sweep):
            done = subprocess.run(
                [sys.executable, "-m", "slm_energy", *words],
                cwd=folder, capture_output=True, text=True, check=False,
            )  # fmt: skip
            ended[done.returncode] += 1
            if not _as_it_must_be(done, {0, 2, 3} if faulty else {0}):
                wrong.append(f"{words[0]}: {done.returncode}: {done.stdout + done.stderr}")
        if not faulty:
            return ended, wrong, rounds


def _as_it_must_be(done: subprocess.CompletedProcess[str], codes: set[int]) -> bool:
    """Whether a command ended with one of these codes, and said in one line why with 2."""
    errors = done.stderr.strip().splitlines()
    told = re.match(r"error: tracking\.uri=http://\S+: ", errors[0]) if len(errors) == 1 else None
    return done.returncode in codes and bool(told) == (done.returncode == 2)


def deleted_runs(server: str) -> tuple[int, list[str]]:
    """How many runs are deleted, and those among them that do not say why."""
    client = MlflowClient(server)
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(experiments, run_view_type=ViewType.DELETED_ONLY, max_results=1000)
    return len(runs), [run.info.run_id for run in runs if "slm.deleted" not in run.data.tags]


if __name__ == "__main__":
    main()
