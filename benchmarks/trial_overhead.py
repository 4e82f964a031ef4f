#!/usr/bin/env python3
"""What a trial costs beyond its windows, against optimum-benchmark's process launcher, in turns.

    python benchmarks/trial_overhead.py --peer PYTHON [--rounds 3]

Both run the same work: the bundled model's folder through PyTorch in float32, batch 1, and per
trial the same number of measured requests with the same numbers of prompt and new tokens. Ours
samples (`measurement=auto`), stores to MLflow and gives each trial a fresh process; the other runs
its latency, memory and energy trackers in its process launcher, and saves its report.

A trial costs the seconds from its start to where the next one could start, less those in which its
model was loaded, idled for a baseline, warmed up or served: our windows; for the other see
`peers/optimum_trial.py`. What ours prepares once per model (the tokens to compare with) is not of a
trial, and `once` is what a command takes before its first trial. Ours neither waits for a calm
machine here (`study.gate`) nor calls a trial beside other load invalid: the other does neither.
Exits with 1 if the median ratio of a trial's cost is above --at-most.

The other tool needs an environment of its own:

    python -m venv peer
    peer/bin/pip install torch==2.13.0 transformers==4.57.6 codecarbon==3.3.2 \
        optimum-benchmark==0.6.0
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from harness_cost import outside_s

from slm_energy.config.groups import BUNDLED, ModelConfig, TrackingConfig, WorkloadConfig
from slm_energy.models import source
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.store.tracking import Store
from slm_energy.workload import load

PEER = Path(__file__).parent / "peers" / "optimum_trial.py"
REQUESTS, PROMPT_TOKENS, NEW_TOKENS = 5, 64, 16


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Seconds of one command.

    Attributes:
        trial_s: of a trial, beyond its windows.
        once_s: before its first trial.
    """

    trial_s: float
    once_s: float


def main() -> int:
    """Measure both in turns; print figures; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", metavar="PYTHON", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-most", type=float, default=0.15, help="highest ratio that is well")
    args = parser.parse_args()
    pairs = []
    print(f"{'round':<7}{'ours, s':>9}{'theirs, s':>11}{'ratio':>8}{'once: ours':>13}{'theirs':>8}")
    for number in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            if number % 2:
                theirs, mine = peers(args.peer, Path(folder)), ours(Path(folder))
            else:
                mine, theirs = ours(Path(folder)), peers(args.peer, Path(folder))
        pairs.append((mine, theirs))
        show(str(number + 1), mine, theirs)
    middle = [
        Cost(
            trial_s=median(cost.trial_s for cost in side),
            once_s=median(cost.once_s for cost in side),
        )
        for side in zip(*pairs, strict=True)
    ]
    show("median", *middle)
    ratio = median(mine.trial_s / theirs.trial_s for mine, theirs in pairs)
    well = ratio <= args.at_most
    print(f"ratio {ratio:.3f}, at most {args.at_most}: {'met' if well else 'MISSED'}")
    return int(not well)


def show(name: str, mine: Cost, theirs: Cost) -> None:
    """One line of the table."""
    print(
        f"{name:<7}{mine.trial_s:>9.2f}{theirs.trial_s:>11.2f}{mine.trial_s / theirs.trial_s:>8.3f}"
        f"{mine.once_s:>13.2f}{theirs.once_s:>8.2f}",
        flush=True,
    )


def ours(folder: Path) -> Cost:
    """A study of two trials: where the second starts, the first has cost all that it costs."""
    prompts = folder / "prompts.jsonl"
    rows = ({"task_id": str(n), "prompt": text} for n, text in enumerate(texts(REQUESTS)))
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    store = folder / "mlruns"
    words = ["model=bundled", "engine=torch", "measurement=auto", "measurement.serve_s=0"]
    words += [f"workload.source={prompts}", f"workload.new_tokens={NEW_TOKENS}"]
    words += ["measurement.baseline_s=1", "study.rounds=2", "study.attempts=1"]
    words += ["study.gate.at_most_s=0"]
    words += ["measurement.limits.foreign_cpu_pct=100", "measurement.limits.steal_pct=100"]
    words += [f"tracking.folder={store}", f"cache.folder={folder / 'cache'}"]
    started_unix_s = time.time()
    run([sys.executable, "-P", "-m", "slm_energy", *words], folder)
    frame = Store(TrackingConfig(name="local", folder=str(store))).frame("default")
    costs_s, _ = outside_s(frame)
    return Cost(trial_s=costs_s.median(), once_s=frame["started"].min() / 1000 - started_unix_s)


def peers(python: str, folder: Path) -> Cost:
    """A trial of the other tool, in its environment."""
    told = folder / "peer.json"
    model = source.fetch(ModelConfig(name=BUNDLED, source=BUNDLED), folder)
    numbers = map(str, (REQUESTS, PROMPT_TOKENS, NEW_TOKENS))
    started_unix_s = time.time()
    run([python, str(PEER), str(model), *numbers, str(told)], folder)
    trial = json.loads(told.read_text(encoding="utf-8"))
    return Cost(
        trial_s=trial["trial_s"] - trial["windows_s"],
        once_s=trial["begun_unix_s"] - started_unix_s,
    )


def run(command: Sequence[str], folder: Path) -> None:
    """Run a command to its end.

    Raises:
        SystemExit: it failed; with what it wrote last.
    """
    variables = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]}: {(done.stderr or done.stdout).strip()[-2000:]}")


def texts(count: int) -> list[str]:
    """So many prompts of PROMPT_TOKENS tokens each, cut from the bundled tasks."""
    folder = source.fetch(ModelConfig(name=BUNDLED, source=BUNDLED), Path())
    tokenizer = load_tokenizer(folder)
    tasks = load(WorkloadConfig(name=BUNDLED, source=BUNDLED))
    ids = tokenizer.encode("".join(task.prompt + "\n" for task in tasks)).ids
    pieces = (
        tokenizer.decode(ids[start : start + PROMPT_TOKENS])
        for start in range(0, len(ids), PROMPT_TOKENS)
    )
    found = [text for text in pieces if len(tokenizer.encode(text).ids) == PROMPT_TOKENS]
    if len(found) < count:
        raise SystemExit(f"the bundled tasks give {len(found)} prompts, {count} are needed")
    return found[:count]


if __name__ == "__main__":
    sys.exit(main())
