"""A study in which engines fail at random, and sampler and parent are killed now and then.

    python benchmarks/faulty_study.py [--trials 500] [--faults 0.05] [--seed 0]

Fifty scripted cells with an export each. In the given share of the processes that export or serve
something goes wrong: an error, a hang, SIGKILL, a lack of memory, a silent exit, outputs or time
stamps that cannot be. Besides, the sampler is killed four times and the parent four times, and the
same command is run again. Energy comes from a fake counter.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import psutil
import soundness

from slm_energy.config.groups import TrackingConfig
from slm_energy.store.tracking import Store
from slm_energy.testing import CONF
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant

CELLS = 50
TARGETS = ("sampler", "parent") * 4
WORDS = """
    -m engine=scripted engine.options.fail=any engine.options.export_s=0.05
    engine.decode=session,generate engine.threads=range(1,26)
    measurement=strict measurement.powercap_root=powercap measurement.target_error=1
    measurement.baseline_s=0 measurement.warmup_requests=0 measurement.serve_s=0.05
    measurement.max_gap_s=30 measurement.limits.foreign_cpu_pct=100
    measurement.limits.steal_pct=100 measurement.limits.throttled_pct=100 workload.limit=3
    workload.new_tokens=4 study.reference=null study.gate.at_most_s=0 study.attempts=20
    study.timeout_s=5 cache.folder=cache
"""
SAID = {
    "export_kill": "prepare (before the trial) failed: the worker was killed",
    "export": "exporting fails",
    "load": "loading fails",
    "generate": "generation fails",
    "nan_logits": "NaN logits",
    "drift": "same_outputs",
    "mute": "no request was served",
    "unstamped": "0 time stamps",
    "garbage": "got 'noon'",
    "memory": "out of memory",
    "kill": "the worker was killed by SIGKILL",
    "exit": "ended without a result",
    "hang": "made no progress for study.timeout_s",
    "sampler killed": "sampl",
}
"""Fault to what its record says."""


def main() -> None:
    """Run, count, print; exit with 1 if the study is not sound."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=500, help=f"a multiple of {CELLS}")
    parser.add_argument("--faults", type=float, default=0.05, help="share of processes that fail")
    parser.add_argument("--seed", type=int, default=0, help="decides which fail, and how")
    asked = parser.parse_args()
    rounds = asked.trials // CELLS
    with tempfile.TemporaryDirectory(prefix="faulty") as name:
        folder = Path(name)
        (folder / "powercap").mkdir()
        zone = Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50))
        options = {"rate": asked.faults, "seed": asked.seed, "log": folder / "faults"}
        words = [f"engine.options.fail_{key}={value}" for key, value in options.items()]
        begun = time.monotonic()
        with PowercapTree(folder / "powercap", [zone]):
            starts = run(folder, [*words, f"study.rounds={rounds}"], asked.trials, asked.seed)
        seconds = time.monotonic() - begun
        found = soundness.examine(folder, cells=CELLS, rounds=rounds)
        store = Store(TrackingConfig(name="local", folder=str(folder / "mlruns")))
        frame = store.frame("default")
        drawn = Counter(line.split()[1] for line in (folder / "faults").open(encoding="utf-8"))
    print_table(frame, drawn)
    print(f"\n{seconds:.0f} s in all, {seconds / asked.trials:.2f} s per trial; {starts} starts")
    print(f"{frame['time/trial_s'].median():.2f} s is the median of a trial by itself")
    for kind, texts in found.items():
        print(f"{kind:<16}{len(texts):>6}  {'; '.join(texts[:3])}")
    sys.exit(any(found.values()))


def run(folder: Path, words: list[str], trials: int, seed: int) -> int:
    """Run the command until it comes to its end; return how often it was started.

    Raises:
        SystemExit: it failed by itself.
    """
    chance = random.Random(seed)
    strikes = [(trials * (n + 1) // (len(TARGETS) + 1), each) for n, each in enumerate(TARGETS)]
    command = [
        sys.executable,
        "-m",
        "slm_energy",
        "--config-dir",
        str(CONF),
        *WORDS.split(),
        *words,
    ]
    starts = ended = 0
    while True:
        starts += 1
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as sweep:
            assert sweep.stdout is not None
            for line in sweep.stdout:
                ended += line.startswith("valid")
                if strikes and ended >= strikes[0][0]:
                    _, target = strikes.pop(0)
                    if target == "parent":
                        time.sleep(chance.uniform(0, 0.5))
                        sweep.kill()
                    else:
                        kill_sampler(sweep, folder)
        if sweep.returncode == 0:
            return starts
        if sweep.returncode > 0:
            sys.exit(f"the same command failed: exit code {sweep.returncode}, {line}")


def kill_sampler(sweep: subprocess.Popen[str], folder: Path) -> None:
    """Kill it while it samples for a trial."""
    while not any((folder / "mlruns" / "pending").glob("*/*/exchange/samples.jsonl")):
        time.sleep(0.005)
    for each in psutil.Process(sweep.pid).children():
        if "slm_energy.sampler.service" in each.cmdline():
            each.kill()


def print_table(frame: pd.DataFrame, drawn: Counter[str]) -> None:
    """What was done, and what is on record of it."""
    outcomes = frame["outcome"].value_counts()
    for name, count in outcomes.items():
        print(f"{name:<16}{count:>6}")
    recorded: Counter[str] = Counter()
    for reason in frame[frame["outcome"] != "valid"]["reason"]:
        recorded[next((fault for fault, text in SAID.items() if text in reason), reason)] += 1
    print(f"\n{'fault':<16}{'done':>6}{'on record':>12}")
    for fault in [*SAID, *(recorded.keys() - SAID.keys())]:
        done = TARGETS.count("sampler") if fault == "sampler killed" else drawn[fault]
        print(f"{fault:<16}{done:>6}{recorded[fault]:>12}")


if __name__ == "__main__":
    main()
