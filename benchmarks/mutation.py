"""Would the tests notice if a joule were computed wrongly? Mutation testing with mutmut.

    python benchmarks/mutation.py [--only PART ...] [--keep FOLDER]

Copies what is needed to a temporary folder, changes the copy of what turns readings into metrics in
every small way that mutmut knows, one at a time, and runs the tests of the changed part against
each. Prints the share of changes that a test noticed, and those that none did. The accounting core
takes about ten minutes on two processors, the parts whose tests watch a clock (recording, wall,
nvml) an hour each. Needs mutmut: pip install -e .[benchmarks].
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Part(NamedTuple):
    """Modules that are changed together, and the tests that should notice; without `.py`."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


_ENERGY = ("accounting", "counters", "usable_readings", "window_edges", "power")
_INTERVALS = ("latency", "gain", "spread", "unobserved", "steadiness", "crosscheck")
PARTS = {
    "core": Part(
        tuple(f"derive/energy/{name}" for name in _ENERGY),
        (
            *(f"derive/energy/test_{name}" for name in (*_ENERGY, *_INTERVALS[:4])),
            "derive/energy/test_counter_edges",
            "derive/energy/test_counter_faults",
        ),
    ),
    "intervals": Part(
        (*(f"derive/energy/{name}" for name in _INTERVALS), "derive/interval"),
        (
            *(f"derive/energy/test_{name}" for name in (*_INTERVALS, "power")),
            "derive/test_interval",
        ),
    ),
    "metrics": Part(("derive/metrics",), ("derive/test_metrics", "derive/test_interval")),
    "schedule": Part(("sampler/schedule",), ("sampler/test_schedule",)),
    "recording": Part(("sampler/recording",), ("sampler/test_recording", "sampler/test_marks")),
    "domains": Part(("meters/domains",), ("meters/test_domains",)),
    "wall": Part(("meters/wall",), ("meters/test_wall",)),
    "nvml": Part(("meters/nvml/meter",), ("meters/nvml/test_meter",)),
}
SETTINGS = """[mutmut]
source_paths =
    slm_energy
only_mutate =
    {core}
also_copy =
    tests
    benchmarks
    pyproject.toml
pytest_add_cli_args_test_selection =
    {tests}
"""


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], metavar="PART")
    parser.add_argument("--keep", type=Path, help="an empty folder to work in, and to leave behind")
    options = parser.parse_args()
    for name in options.only:
        print(f"{name}:", flush=True)
        measure(PARTS[name], options.keep and options.keep / name)


def measure(part: Part, keep: Path | None) -> None:
    """Change each module of a part, and print what its tests noticed."""
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _copy(folder, part)
        # -P: the unchanged copy in the working folder must not be found first.
        run = [sys.executable, "-P", "-m", "mutmut"]
        mutants = folder.resolve() / "mutants"
        mutants.mkdir()  # Python forgets paths that are not there when it starts.
        environment = {**os.environ, "PYTHONPATH": os.fspath(mutants)}
        subprocess.run([*run, "run"], cwd=folder, env=environment, check=True)
        results = subprocess.run(
            [*run, "results", "--all", "true"],
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        _report(results)


def _copy(folder: Path, part: Part) -> None:
    skip = shutil.ignore_patterns("__pycache__", "bundled")
    for name in ("slm_energy", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=skip, symlinks=False)
    # Settings of its own project would come first.
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (folder / "pyproject.toml").write_text(project, encoding="utf-8")
    settings = SETTINGS.format(
        core="\n    ".join(f"slm_energy/{name}.py" for name in part.modules),
        tests="\n    ".join(f"tests/{name}.py" for name in part.tests),
    )
    (folder / "setup.cfg").write_text(settings, encoding="utf-8")


def _report(results: str) -> None:
    outcomes = dict(line.strip().rsplit(": ", 1) for line in results.splitlines() if ": " in line)
    counts = collections.Counter(outcomes.values())
    noticed = counts["killed"] + counts["timeout"]
    for name, outcome in outcomes.items():
        if outcome not in ("killed", "timeout"):
            print(f"{outcome}: {name}")
    print(f"mutants: {len(outcomes)}, noticed: {noticed} ({100 * noticed / len(outcomes):.1f} %)")


if __name__ == "__main__":
    main()
