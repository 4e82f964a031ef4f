"""What a fork spares against a fresh interpreter, and whether it changes the measured work.

    python benchmarks/isolation.py [--engines torch,onnx,openvino] [--templates 3] [--trials 4]
                                   [SETTING ...]

Trials of the bundled model are run spawned and forked in turns, in an order that alternates; after
every `--trials` pairs the template is replaced. Printed per engine:

outside   seconds of a worker outside its windows, and in its load window
ratio     decoding steps per second, forked / spawned: geometric mean, 95 % t interval over
          templates; of the median step of a serve window, because what else a machine does hits
          some steps
spread    of steps per second from trial to trial, in percent: spawned, forked within a template,
          and of the templates' means (what one template draws, all its trials share)

Exits with 1 if tokens, texts or effective settings differ anywhere, if a fork spares nothing, or if
the whole interval of the ratio lies more than 1 % from 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path
from statistics import fmean, median, stdev

import numpy as np
import scipy.stats
from bundled import bundled_trial, prepare

from slm_energy.cell import Trial
from slm_energy.record import Record
from slm_energy.running import trial
from slm_energy.worker.forkserver import Templates

KINDS = ("spawn", "forkserver")
SETTINGS = [
    "measurement=off",
    "measurement.warmup_s=2",
    "measurement.serve_s=2",
    "workload.limit=8",
]


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--engines", default="torch,onnx,openvino")
    parser.add_argument("--templates", type=int, default=3)
    parser.add_argument("--trials", type=int, default=4, help="pairs per template")
    parser.add_argument("settings", nargs="*", help="as on the command line of slm-energy")
    args = parser.parse_args()
    if min(args.templates, args.trials) < 2:
        parser.error("--templates and --trials: at least 2, or there is no spread")
    print(f"{'':10}{'outside windows, s':>20}{'load, s':>16}{'steps/s':>26}{'spread, %':>24}")
    print(
        f"{'engine':10}{'spawn':>11}{'fork':>9}{'spawn':>9}{'fork':>7}"
        f"{'fork / spawn':>26}{'spawn':>8}{'within':>8}{'between':>8}"
    )
    missed = False
    for engine in args.engines.split(","):
        with tempfile.TemporaryDirectory() as folder:
            settings = [f"engine={engine}", *SETTINGS, *args.settings]
            asked = bundled_trial(settings, Path(folder) / "cache")
            prepare(asked)
            pairs = [
                pair
                for number in range(args.templates)
                for pair in block(asked, args.trials, Path(folder) / str(number))
            ]
        missed |= report(engine, pairs, args.trials)
    return int(missed)


def block(asked: Trial, count: int, folder: Path) -> list[dict[str, Record]]:
    """So many pairs of trials, the forked ones from one template."""
    pairs = []
    with Templates() as templates:
        for number in range(count):
            order = KINDS if number % 2 else KINDS[::-1]
            pairs.append(
                {kind: run(asked, kind, folder / f"{number}{kind}", templates) for kind in order}
            )
    return pairs


def run(asked: Trial, kind: str, folder: Path, templates: Templates) -> Record:
    """One trial."""
    settings = asked.cell.settings
    measurement = dataclasses.replace(settings.measurement, isolation=kind)
    cell = dataclasses.replace(
        asked.cell, settings=dataclasses.replace(settings, measurement=measurement)
    )
    folder.mkdir(parents=True)
    record = trial.run(
        dataclasses.replace(asked, cell=cell), folder, None, lambda *_: None, None, templates
    )
    if record.outcome.name != "valid":
        sys.exit(f"{kind}: {record.outcome}")
    return record


def report(engine: str, pairs: list[dict[str, Record]], block_length: int) -> bool:
    """Print an engine's line; tell whether it misses what is wanted."""
    columns = {kind: [pair[kind] for pair in pairs] for kind in KINDS}
    outside = {kind: median(map(outside_s, columns[kind])) for kind in KINDS}
    load = {kind: median(r.metrics["time/load_s"] for r in columns[kind]) for kind in KINDS}
    logs = {kind: np.log([speed(r) for r in columns[kind]]) for kind in KINDS}
    ratios = (logs["forkserver"] - logs["spawn"]).reshape(-1, block_length).mean(axis=1)
    half = scipy.stats.t.ppf(0.975, len(ratios) - 1) * stdev(ratios) / len(ratios) ** 0.5
    low, middle, high = np.exp(fmean(ratios) + half * np.array([-1, 0, 1]))
    blocks = logs["forkserver"].reshape(-1, block_length)
    spreads = [stdev(logs["spawn"]), blocks.std(axis=1, ddof=1).mean(), stdev(blocks.mean(axis=1))]
    words = f"{middle:.3f} ({low:.3f} to {high:.3f})"
    print(
        f"{engine:10}{outside['spawn']:11.2f}{outside['forkserver']:9.2f}"
        f"{load['spawn']:9.2f}{load['forkserver']:7.2f}{words:>26}"
        + "".join(f"{100 * each:8.2f}" for each in spreads),
        flush=True,
    )
    same = len({results(record) for pair in pairs for record in pair.values()}) == 1
    if not same:
        print(f"{engine}: RESULTS DIFFER")
    spares = sum(each["spawn"] for each in (outside, load)) > sum(
        each["forkserver"] for each in (outside, load)
    )
    return not same or not spares or low > 1.01 or high < 0.99


def outside_s(record: Record) -> float:
    """Seconds from the worker's start to its end that lie in no window."""
    assert record.capture is not None
    return record.phases_s["worker"] - sum(window.duration_s for window in record.capture.windows)


def speed(record: Record) -> float:
    """Decoding steps per second, of the median step in the serve window."""
    assert record.capture is not None
    steps = [np.diff(generation.token_ns) for generation in record.capture.generations]
    return float(1e9 / np.median(np.concatenate(steps)))


def results(record: Record) -> str:
    """Everything that must not depend on how the process began."""
    capture = record.capture
    assert capture is not None
    first = [(g.task_id, g.output_ids, g.text) for g in capture.generations if g.pass_index == 0]
    settings = {k: v for k, v in capture.effective.items() if not isinstance(v, float)}
    return repr((first, sorted(settings.items())))


if __name__ == "__main__":
    sys.exit(main())
