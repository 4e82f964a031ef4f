#!/usr/bin/env python3
"""Does every engine generate the same tokens? Architectures x engines, on tiny random twins.

    python benchmarks/engine_matrix.py [--models A,B] [--columns A,B] [--csv FILE]

Each model of conf/model is built with two narrow layers and seeded random weights. Engine torch
decodes three prompts of unequal length, one at a time, 24 tokens, float32, greedy. Every engine
must give the same token ids, one prompt at a time and all three in one padded batch.

    =       the same tokens, both ways
    1:N     differs first at token N when served one at a time (counted from 0)
    3:N     the same alone, but differs at token N in the padded batch
    -       refused; the reasons stand below the table
    !       an exception of Python or a library instead of a reason, or the process died

A column is ENGINE[/generate][@ENVIRONMENT], the last a path or a name that `slm-energy env` knows.
What all are compared with is this environment's torch. Exits with 1 if any cell is neither = nor -.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bundled import random_trial
from rich.console import Console
from rich.table import Table
from serve_trials import PROMPTS

from slm_energy.cell import Trial
from slm_energy.derive.quality import first_difference
from slm_energy.engines.base import find, load_request_of
from slm_energy.errors import SlmEnergyError
from slm_energy.serialization import write_json
from slm_energy.worker import interpreters

CONF = Path(__file__).parent.parent / "conf" / "model"
STUDY = (
    "codeparrot-small", "tiny_starcoder_py", "pythia-410m", "bloomz-560m", "starcoderbase-1b",
    "bloomz-1b1", "tinyllama-1.1b", "pythia-1.4b", "codegemma-2b", "phi-2",
    "stablecode-instruct-alpha-3b", "stablecode-completion-alpha-3b-4k",
)  # fmt: skip
COLUMNS = (
    "torch", "torch/generate", "torch_compile", "torchscript", "onnx", "onnx/generate", "openvino",
    "openvino/generate", "openvino_genai/generate", "llama_cpp",
    "onnxruntime_genai/generate@onnxruntime_genai", "torch@transformers5",
    "torch/generate@transformers5", "torch_compile@transformers5", "torchscript@transformers5",
    "onnx@transformers5", "openvino@transformers5",
)  # fmt: skip
CHILD = Path(__file__).parent / "serve_trials.py"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What one engine did with one model: token ids alone and in a batch, or why there are none.

    Attributes:
        alone: one list per prompt.
        together: the same of the padded batch.
        reason: why there are none.
        raw: the reason is an exception that the engine did not explain.
    """

    alone: list[list[int]] | None = None
    together: list[list[int]] | None = None
    reason: str | None = None
    raw: bool = False


def main() -> int:
    """Print the matrix; return the exit code."""
    others = sorted(p.stem for p in CONF.glob("*.yaml") if p.stem not in (*STUDY, "bundled"))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", default=",".join((*STUDY, *others)))
    parser.add_argument("--columns", default=",".join(COLUMNS))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--csv", help="write the cells to this file, too")
    args = parser.parse_args()
    models, columns = args.models.split(","), args.columns.split(",")
    with tempfile.TemporaryDirectory() as cache:
        reference = run("torch", models, Path(cache), "float32", together=False)
        found = {}
        for column in columns:
            print(f"{column} ...", file=sys.stderr, flush=True)
            found[column] = run(column, models, Path(cache), args.dtype, together=True)
    cells = {
        (model, column): verdict(found[column][model], reference[model])
        for model in models
        for column in columns
    }
    show(models, columns, cells, found)
    if args.csv:
        write_csv(Path(args.csv), cells, found)
    return int(any(cell[0] not in "=-" for cell in cells.values()))


def run(
    column: str, models: Sequence[str], cache: Path, dtype: str, *, together: bool
) -> dict[str, Found]:
    """Serve all models with one engine, in one process as long as it lives.

    With `together` the trials ask for batches, which some engines then compare or refuse.
    """
    way, _, python = column.partition("@")
    engine, _, decode = way.partition("/")
    words = [f"engine={engine}", f"engine.decode={decode or 'session'}", "engine.threads=2"]
    words += [f"workload.batch_size={len(PROMPTS) if together else 1}"]
    words += [f"engine.dtype={dtype}", *([f"engine.python={python}"] if python else [])]
    found, waiting = {}, []
    for model in models:
        asked = [f"model={model}", "model.scale=tiny", *words]
        trial, reason = random_trial(asked, cache)
        if reason is None and find(engine).prepares_in_sweep(trial.cell.settings):
            reason = prepared(trial)
        if reason is None:
            waiting.append((model, trial))
        else:
            found[model] = Found(reason=reason)
    while waiting:
        for (model, _), line in zip(list(waiting), serve(waiting, cache), strict=False):
            found[model] = Found(**json.loads(line))
            waiting.pop(0)
        if waiting:  # the process died over the first of them
            model, _ = waiting.pop(0)
            found.setdefault(model, Found(reason="the process died", raw=True))
    return found


def prepared(trial: Trial) -> str | None:
    """Prepare the export in this environment; return why that failed, or None."""
    try:
        find(trial.cell.settings.engine.name).prepare(load_request_of(trial))
    except SlmEnergyError as error:
        return str(error)
    return None


def serve(waiting: Sequence[tuple[str, Trial]], cache: Path) -> Iterator[str]:
    """Start the child; yield its lines, one per model, for as long as it lives."""
    python = waiting[0][1].python
    asked = cache / "trials.json"
    write_json(asked, [trial for _, trial in waiting])
    command, variables = interpreters.command(python, [str(asked)], cache)
    command[command.index("-m") : command.index("-m") + 2] = [str(CHILD)]
    with subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        assert child.stdout is not None
        yield from child.stdout


def verdict(found: Found, reference: Found) -> str:
    """What stands in the table."""
    if found.raw:
        return "!"
    if found.alone is None or found.together is None:
        return "-"
    for size, ids in (("1", found.alone), ("3", found.together)):
        assert reference.alone is not None, reference.reason
        for ours, theirs in zip(ids, reference.alone, strict=True):
            at = first_difference(ours, theirs)
            if at is not None:
                return f"{size}:{at}"
    return "="


def show(
    models: Sequence[str],
    columns: Sequence[str],
    cells: dict[tuple[str, str], str],
    found: dict[str, dict[str, Found]],
) -> None:
    """The table, and below it the reasons."""
    console = Console(width=None if sys.stdout.isatty() else 240)
    table = Table("model (tiny twin)", *columns)
    reasons: dict[str, int] = {}
    for model in models:
        row = []
        for column in columns:
            cell, reason = cells[model, column], found[column][model].reason
            if reason is not None:
                cell += f" [{reasons.setdefault(reason, len(reasons) + 1)}]"
            row.append(cell.replace("[", r"\["))
        table.add_row(model, *row)
    console.print(table)
    for reason, number in reasons.items():
        console.print(f"[{number}] {reason}", markup=False, soft_wrap=True)
    exact = sum(cell == "=" for cell in cells.values())
    console.print(f"{exact} of {len(cells)} cells exact")


def write_csv(
    path: Path, cells: dict[tuple[str, str], str], found: dict[str, dict[str, Found]]
) -> None:
    """One row per cell."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "engine", "cell", "reason"])
        for (model, column), cell in cells.items():
            writer.writerow([model, column, cell, found[column][model].reason or ""])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SlmEnergyError as error:
        sys.exit(f"error: {error}")
