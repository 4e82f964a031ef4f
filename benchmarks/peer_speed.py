#!/usr/bin/env python3
"""Are our sessions as fast as the loops of the libraries' makers? Milliseconds per token, in turns.

    python benchmarks/peer_speed.py [--models A,B] [--dtypes A,B] [--batches 1,4] [--starts N]

For each model, type and batch: engine onnx against ONNX Runtime GenAI on the graph of its own
builder, and engine openvino against OpenVINO GenAI (paged, and its stateful pipeline, which takes
one request). Each engine has a process of its own, in its own environment, because what is loaded
first in a process was up to 14 % slower than the same graph loaded second; and each is started
several times, because processes with the same work differ by as much. They take turns; a round is
one batch each of prompts of 64 tokens. The figure is ours / theirs, the median over rounds of
ratios of the time per token after the first, which the stamps of tokens tell: 1.0 or less means
that ours is not slower. Beside it, for busy machines, that of the fastest of all rounds, step by
step. `llama-162m` is a Llama of 162 M with random weights. Exits with 1 above
--at-most, or if tokens differ where weights are the same.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from slm_energy.cell import Trial
from slm_energy.engines.base import Batch, find, load_request_of
from slm_energy.serialization import from_plain, to_plain

LLAMA_162M = [
    "model=tinyllama-1.1b", "model.name=llama-162m", "model.architecture.hidden_size=768",
    "model.architecture.intermediate_size=3072", "model.architecture.num_hidden_layers=12",
    "model.architecture.num_attention_heads=12", "model.architecture.num_key_value_heads=12",
]  # fmt: skip
PEERS = {
    "onnx": (["engine=onnxruntime_genai", "engine.options.graph=builder"],),
    "openvino": (
        ["engine=openvino_genai"],
        ["engine=openvino_genai", "engine.options.attention=sdpa"],
    ),
}
PROMPT = 64


def main() -> int:
    """Measure each combination; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", default="bundled,llama-162m")
    parser.add_argument("--engines", default="onnx,openvino")
    parser.add_argument("--dtypes", default="float32,int4")
    parser.add_argument("--batches", default="1,4")
    parser.add_argument("--starts", type=int, default=3, help="pairs of processes")
    parser.add_argument("--rounds", type=int, default=5, help="batches of each process")
    parser.add_argument("--tokens", type=int, default=33, help="new tokens per request")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--at-most", type=float, default=1.0, help="highest ratio that is well")
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/.cache"))
    parser.add_argument("--serve", type=Path, metavar="TRIAL.json", help="internal")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    if args.serve:
        return serve(from_plain(Trial, json.loads(args.serve.read_text(encoding="utf-8"))))
    codes = [
        compare(model, engine, dtype, int(rows), args)
        for model in args.models.split(",")
        for dtype in args.dtypes.split(",")
        for rows in args.batches.split(",")
        for engine in args.engines.split(",")
    ]
    return max(codes)


def compare(model: str, engine: str, dtype: str, rows: int, args: argparse.Namespace) -> int:
    """Print one line per peer; return the exit code."""
    code = 0
    for words in PEERS[engine]:
        if rows > 1 and words[-1].endswith("=sdpa"):
            continue
        pairs: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for start in range(args.starts):
            order = -1 if start % 2 else 1
            asked = ([f"engine={engine}"], list(words))[::order]
            ours, theirs = [Server(each, model, dtype, rows, args) for each in asked][::order]
            taken = [in_turn(ours, theirs, number) for number in range(args.rounds + 1)]
            pairs += taken[1:]  # the first warms up
            ours.end()
            theirs.end()
        ratio = statistics.median(sum(a["ms"]) / sum(b["ms"]) for a, b in pairs)
        rounds = [[pair[which]["ms"] for pair in pairs] for which in (0, 1)]
        ms = [statistics.median(map(statistics.fmean, each)) for each in rounds]
        best = [statistics.fmean(map(min, zip(*each, strict=True))) for each in rounds]
        same = pairs[0][0]["ids"] == pairs[0][1]["ids"]
        well = ratio <= args.at_most and (same or dtype != "float32")
        code |= not well
        print(
            f"{model:14} {dtype:8} batch {rows}  {engine:9} {ms[0]:8.3f}"
            f"  {' '.join(words).replace('engine.options.', '').replace('engine=', ''):34}"
            f" {ms[1]:8.3f} ms/token  ours/theirs {ratio:.2f}, at best {best[0] / best[1]:.2f}"
            f"  {'same' if same else 'OTHER'} tokens  {'met' if well else 'MISSED'}",
            flush=True,
        )
    return int(code)


def in_turn(ours: Server, theirs: Server, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """One batch of each; who goes first changes with the number of the round."""
    if number % 2:
        taken = ours.take()
        return taken, theirs.take()
    taken = theirs.take()
    return ours.take(), taken


class Server:
    """A process that serves one batch each time it is asked."""

    def __init__(
        self, words: list[str], model: str, dtype: str, rows: int, args: argparse.Namespace
    ) -> None:
        # Not at the top: environments of engines lack what they import.
        from bundled import bundled_trial, prepare, random_trial

        asked = [*words, f"engine.dtype={dtype}", f"engine.threads={args.threads}"]
        asked += [f"workload.new_tokens={args.tokens}", f"workload.batch_size={rows}"]
        cache = args.cache.absolute()
        if model == "bundled":
            trial = bundled_trial(asked, cache)
        else:
            chosen = LLAMA_162M if model == "llama-162m" else [f"model={model}"]
            trial, reason = random_trial([*chosen, *asked], cache)
            if reason is not None:
                raise RuntimeError(reason)
        if find(trial.cell.settings.engine.name).prepares_in_sweep(trial.cell.settings):
            prepare(trial)
        file = cache / f"peer_{os.getpid()}_{id(self)}.json"
        file.write_text(json.dumps(to_plain(trial)), encoding="utf-8")
        self._process = subprocess.Popen(
            [trial.python or sys.executable, __file__, "--serve", str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
        )
        if not self._process.stdout or self._process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{' '.join(words)} did not start")
        file.unlink()

    def take(self) -> dict[str, Any]:
        """Milliseconds of each token after the first, and the tokens."""
        assert self._process.stdin
        assert self._process.stdout
        print(file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def end(self) -> None:
        """Let the process end."""
        self._process.communicate()


def serve(trial: Trial) -> int:
    """Load, and serve a batch for each line that comes."""
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    workload = trial.cell.settings.workload
    prompts = tuple(tuple(range(7 + n, 7 + n + PROMPT)) for n in range(workload.batch_size))
    batch = Batch(prompts=prompts, new_tokens=workload.new_tokens, stop="fixed")
    spec, request = find(trial.cell.settings.engine.name), load_request_of(trial)
    if not spec.prepares_in_sweep(request.settings) and spec.needs_preparation(request):
        spec.prepare(request)
    engine = spec.create()
    engine.load(request)
    print("ready", file=lines)
    for _ in sys.stdin:
        answers = engine.generate(batch)
        slowest = max((each.token_ns for each in answers), key=lambda stamps: stamps[-1])
        told = {"ms": [(b - a) / 1e6 for a, b in itertools.pairwise(slowest)]}
        print(json.dumps(told | {"ids": [each.output_ids for each in answers]}), file=lines)
    engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
