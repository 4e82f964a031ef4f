"""Everything about a machine with an NVIDIA GPU that only such a machine can tell, in 8 minutes.

    python benchmarks/gpu_campaign.py prepare WHEELS             where there is a network
    python benchmarks/gpu_campaign.py run OUT --wheels WHEELS    on the machine with the GPU
    python benchmarks/gpu_campaign.py run OUT --rehearse         anywhere: a fake GPU, real trials

The machine needs Python 3.12, a CUDA build of torch, transformers, tokenizers and safetensors, this
checkout, and the folder of wheels (`prepare` makes it and prints its size); no network. In this
order, so that running out of time loses the least:

1. times between updates of the energy counter and of power: idle, under copies, under products
2. how late counter and power are after a step of the load
3. energy by the counter over energy by integrated power
4. trials of three sizes with torch on CUDA, in bfloat16: joules, checks, agreement of the tokens
5. a trial with ONNX Runtime on CUDA

OUT gets `campaign.json` (all figures), `trace.jsonl.gz` (the sensors' readings, for
`slm_energy.testing.trace`) and `records/` (the trials, for `slm-energy sync`). Each step that fails
leaves its reason there, and the next one runs.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LIMIT_S = 480.0
PYTHON = "312"
NEEDED = (
    "hydra-core", "omegaconf", "antlr4-python3-runtime", "platformdirs", "filelock", "rich",
    "markdown-it-py", "mdurl", "pygments", "packaging", "PyYAML", "psutil", "nvidia-ml-py",
    "urllib3", "requests", "idna", "certifi", "charset-normalizer", "pyarrow",
)  # fmt: skip
"""What an offline trial imports beyond torch, transformers, tokenizers and safetensors."""
MOST_WHEELS_MB = 60
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")

_LEVELS_S = {"idle": 15.0, "memory": 15.0, "compute": 15.0}
_STEPS = 10
_STEP_S = 1.5
_LEAD_S, _TAIL_S = 1.0, 1.0
"""Readings before the first phase and after the last."""
_POLL_S = 0.001
_FAKE_DELAY_MS = 60
_FAKE_MW = {"idle": 80_000, "memory": 300_000, "compute": 600_000}

_SIZES = {
    "bundled": ("model=bundled",),
    "0.4 B": ("model=pythia-410m", "model.weights=random"),
    "1.1 B": ("model=tinyllama-1.1b", "model.weights=random"),
}
_TRIAL = (
    "workload.limit=4", "workload.new_tokens=32", "measurement.warmup_s=5", "study.attempts=1",
    "measurement.baseline_s=5", "measurement.serve_s=10", "study.gate.at_most_s=10",
)  # fmt: skip
_REHEARSAL = ("measurement.limits.foreign_cpu_pct=100",)
_TRIAL_S = 90.0
_ONLY_IN_FILE = ("effective", "metrics", "checks")
_END_S = 15.0
"""An interrupted trial is recorded within this time."""

Phase = tuple[int, int, str]
"""Start and end on the monotonic clock, in ns, and the level of the load."""


def main() -> None:
    """Parse, then prepare or run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    preparing = verbs.add_parser("prepare", help="download the wheels that travel along")
    preparing.add_argument("wheels", type=Path)
    running = verbs.add_parser("run", help="measure; prints and writes what it finds")
    running.add_argument("out", type=Path, help="a new folder")
    running.add_argument("--wheels", type=Path, help="folder that `prepare` made")
    running.add_argument("--rehearse", action="store_true", help="a fake GPU; trials on the CPU")
    running.add_argument("--seconds", type=float, default=LIMIT_S, help="time for everything")
    options = parser.parse_args()
    if options.verb == "prepare":
        prepare(options.wheels)
    else:
        run(options.out.absolute(), options.wheels, options.rehearse, options.seconds)


def prepare(wheels: Path) -> None:
    """Download the wheels for the other machine's Python, and print their size."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    pins = ["-c", str(ROOT / "constraints.txt")]
    target = [word for name in _PLATFORMS for word in ("--platform", name)]
    # antlr4 comes as source only; its wheel fits every Python 3.
    pure = "antlr4-python3-runtime"
    binary = [name for name in NEEDED if name != pure]
    subprocess.run([*pip, "wheel", "--no-deps", *pins, "-w", str(wheels), pure], check=True)
    subprocess.run(
        [*pip, "download", "--no-deps", "--only-binary", ":all:", "--python-version", PYTHON,
         *target, *pins, "-d", str(wheels), *binary],
        check=True,
    )  # fmt: skip
    size_mb = sum(path.stat().st_size for path in wheels.glob("*.whl")) / 1e6
    print(f"{len(list(wheels.glob('*.whl')))} wheels, {size_mb:.1f} MB")
    if size_mb > MOST_WHEELS_MB:
        raise SystemExit(f"more than {MOST_WHEELS_MB} MB: leave something out")


def run(out: Path, wheels: Path | None, rehearse: bool, seconds: float) -> None:
    """Run every step for which there is time, and write the figures after each."""
    out.mkdir(parents=True)
    until = time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        if wheels is not None:
            site = stack.enter_context(tempfile.TemporaryDirectory())
            _install(wheels, Path(site))
        sys.path.insert(0, str(ROOT))
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        figures: dict[str, Any] = {"rehearsal": rehearse, "machine": _machine(rehearse)}
        device, kind = ("cpu", "float32") if rehearse else ("cuda", "bfloat16")
        small = ("model.scale=tiny",) if rehearse else ()
        base = [f"provider={device}", *_TRIAL]
        if rehearse:
            base += [*_REHEARSAL, f"measurement.powercap_root={stack.enter_context(_fake_rapl())}"]
        torch_words = ["engine=torch", f"engine.dtype={kind}", *base]

        def torch_trial(name: str, words: Sequence[str]) -> Callable[[], Any]:
            more = small if name != "bundled" else ()
            return lambda: trial(out / "records" / name, [*torch_words, *words, *more], until)

        onnx_words = ["engine=onnx", *base, *_SIZES["bundled"]]
        steps: dict[str, Callable[[], Any]] = {
            "signals": lambda: signals(out, device, rehearse),
            **{f"torch {name}": torch_trial(name, words) for name, words in _SIZES.items()},
            "onnx": lambda: trial(out / "records" / "onnx", onnx_words, until),
        }
        for name, step in steps.items():
            if time.monotonic() > until:
                figures[name] = {"left out": "no time was left"}
            else:
                figures[name] = _attempt(step)
            shown = {key: figures[name][key] for key in figures[name] if key not in _ONLY_IN_FILE}
            print(f"{name}: {json.dumps(shown, indent=2)}", flush=True)
            (out / "campaign.json").write_text(json.dumps(figures, indent=2) + "\n")


def _attempt(step: Callable[[], Any]) -> Any:
    try:
        return step()
    except Exception:
        return {"failed": traceback.format_exc().splitlines()}


def _install(wheels: Path, site: Path) -> None:
    """Install for this process and its children, beside what the machine has."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps",
         "--target", str(site), *map(str, sorted(wheels.glob("*.whl")))],
        check=True,
    )  # fmt: skip
    _describe_checkout(site)
    paths = [str(site), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    sys.path.insert(0, str(site))


def _describe_checkout(site: Path) -> None:
    """What an installation would say of this checkout: a plan lists the versions that it needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", "Version: 0"]
    folder = site / "slm_energy-0.dist-info"
    folder.mkdir()
    lines += [f"Requires-Dist: {requirement}" for requirement in project["dependencies"]]
    (folder / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _machine(rehearse: bool) -> dict[str, str]:
    import torch

    there = not rehearse and torch.cuda.is_available()
    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if there else "none",
    }


# --- the sensors ----------------------------------------------------------------------------------


def signals(out: Path, device: str, rehearse: bool) -> dict[str, Any]:
    """Record counter and power under a schedule of loads, and describe both."""
    from slm_energy.testing import trace

    command = [sys.executable, str(Path(__file__).with_name("gpu_load.py")), device]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as load:
        assert load.stdin is not None
        assert load.stdout is not None
        load.stdout.readline()  # torch is loaded
        planned = schedule(time.monotonic_ns() + round(_LEAD_S * 1e9))
        load.stdin.write(json.dumps(planned) + "\n")
        load.stdin.flush()
        with _fake_gpu(planned) if rehearse else contextlib.nullcontext():
            counter, power = record(planned[-1][1] + round(_TAIL_S * 1e9))
        edges = [(start, end, level) for start, end, level in json.loads(load.stdout.readline())]
    trace.save([counter, power], out / "trace.jsonl.gz", note=json.dumps(edges))
    return describe(counter, power, edges)


def schedule(start_ns: int) -> list[Phase]:
    """One long phase of each level, then short ones that go between idle and full load."""
    lengths = [*_LEVELS_S.items(), *[("idle", _STEP_S), ("compute", _STEP_S)] * _STEPS]
    phases = list[Phase]()
    for level, length_s in lengths:
        end_ns = start_ns + round(length_s * 1e9)
        phases.append((start_ns, end_ns, level))
        start_ns = end_ns
    return phases


def record(until_ns: int) -> tuple[Any, Any]:
    """Read energy counter and power of the first GPU about every millisecond.

    Raises:
        RuntimeError: there is no such GPU, or it lacks one of the two.
    """
    from slm_energy.config.groups import MeasurementConfig
    from slm_energy.meters.nvml.meter import open_nvml
    from slm_energy.record import Series

    opened = open_nvml(MeasurementConfig(name="campaign"))
    kinds = {c.source.kind: c for c in opened.meter.channels[::-1]} if opened.meter else {}
    if opened.meter is None or not {"counter", "power"} <= kinds.keys():
        raise RuntimeError(f"no GPU with a counter and power: {'; '.join(opened.notes)}")
    channels = [kinds["counter"], kinds["power"]]
    columns = [([], [], []) for _ in channels]  # type: ignore[var-annotated]
    while time.monotonic_ns() < until_ns:
        for channel, (before, raw, after) in zip(channels, columns, strict=True):
            before.append(time.monotonic_ns())
            raw.append(channel.read())
            after.append(time.monotonic_ns())
        time.sleep(_POLL_S)
    opened.meter.close()
    counter, power = (
        Series(source=c.source, before_ns=tuple(b), raw=tuple(r), after_ns=tuple(a))
        for c, (b, r, a) in zip(channels, columns, strict=True)
    )
    return counter, power


def describe(counter: Any, power: Any, edges: Sequence[Phase]) -> dict[str, Any]:
    """Figures of steps 1 to 3, from a trace and the times of its load."""
    from gpu_signals import counter_delay_ms, counter_to_power, power_delay_ms, ticks

    from slm_energy.record import Window

    windows = [Window(name=level, start_ns=start, end_ns=end) for start, end, level in edges]
    longest = windows[: len(_LEVELS_S)]
    delays: dict[str, list[float]] = {}
    for before, after in pairwise(windows[len(_LEVELS_S) :]):
        direction = "rise" if after.name != "idle" else "fall"
        for name, delay in (
            ("counter", counter_delay_ms(counter, before, after)),
            ("power", power_delay_ms(power, before, after)),
        ):
            if delay is not None:
                delays.setdefault(f"{name} {direction}", []).append(delay)
    return {
        "sources": [f"{s.source.id}: {s.source.path}" for s in (counter, power)],
        "ticks": {
            f"{series.source.kind} {window.name}": _plain(ticks(series, window))
            for series in (counter, power)
            for window in longest
        },
        "delay_ms": {name: _spread(values) for name, values in delays.items()},
        "counter_to_power": {w.name: counter_to_power(counter, power, w) for w in longest},
    }


def _plain(value: Any) -> dict[str, float] | None:
    return None if value is None else dataclasses.asdict(value)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "count": len(values),
        "least": min(values),
        "median": statistics.median(values),
        "most": max(values),
    }


@contextlib.contextmanager
def _fake_rapl() -> Iterator[Path]:
    """A processor's counters, for trials on a machine without sensors."""
    from slm_energy.testing.powercap import PowercapTree, client
    from slm_energy.testing.waveform import constant

    with tempfile.TemporaryDirectory() as root, PowercapTree(Path(root), client(constant(20))):
        yield Path(root)


@contextlib.contextmanager
def _fake_gpu(planned: Sequence[Phase]) -> Iterator[None]:
    """A GPU that draws the planned power, and shows it late."""
    from slm_energy.testing.nvml import FakeGpu, FakeNvml, installed
    from slm_energy.testing.waveform import Waveform

    steps = tuple((end - start, _FAKE_MW[level]) for start, end, level in planned)
    start_ns = planned[0][0] + _FAKE_DELAY_MS * 10**6
    gpu = FakeGpu(uuid="GPU-rehearsal", waveform=Waveform(steps=steps, start_ns=start_ns))
    with installed(FakeNvml(gpus=(gpu,))):
        yield


# --- the trials -----------------------------------------------------------------------------------


def trial(folder: Path, words: Sequence[str], until: float) -> dict[str, Any]:
    """Run one trial as a user would, without a store, and report its record.

    Args:
        folder: for the record.
        words: of the command line.
        until: monotonic time at which it is interrupted.
    """
    command = [
        sys.executable, "-m", "slm_energy", "tracking=offline", f"tracking.folder={folder}",
        "study.name=gpu_campaign", *words,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        output, _ = process.communicate(timeout=min(_TRIAL_S, max(1.0, until - time.monotonic())))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=_END_S)
    records = [json.loads(path.read_text()) for path in folder.glob("pending/*/*/record.json")]
    if not records:
        return {"exit code": process.returncode, "output": output.splitlines()}
    (only,) = records
    return summary(only)


def summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial's record says about joules, device and tokens."""
    wanted = ("energy", "energy_devices", "throughput", "quality", "crosscheck")
    capture = record["capture"] or {}
    return {
        "outcome": record["outcome"],
        "effective": capture.get("effective"),
        "metrics": {k: v for k, v in record["metrics"].items() if k.split("/")[0] in wanted},
        "checks": {check["name"]: check["detail"] for check in record["checks"]},
        "phases_s": record["phases_s"],
    }


if __name__ == "__main__":
    main()
