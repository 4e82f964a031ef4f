"""Would the tests notice if the accounting core were wrong? Mutation testing with mutmut.

    python benchmarks/mutation.py [--keep FOLDER]

Copies what is needed to a temporary folder, changes the copy of the accounting core in every small
way that mutmut knows, one at a time, and runs the tests of the accounting core against each. Prints
the share of changes that a test noticed, and those that none did. Takes about ten minutes on two
processors, and needs mutmut: pip install -e .[benchmarks].
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

ROOT = Path(__file__).parent.parent
CORE = ("accounting", "usable_readings", "counters", "window_edges", "power")
TESTS = ("accounting", "counter_edges", "counter_faults", *CORE[1:])
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
    parser.add_argument("--keep", type=Path, help="an empty folder to work in, and to leave behind")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _copy(folder)
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


def _copy(folder: Path) -> None:
    skip = shutil.ignore_patterns("__pycache__", "bundled")
    for name in ("slm_energy", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=skip, symlinks=False)
    # Settings of its own project would come first.
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (folder / "pyproject.toml").write_text(project, encoding="utf-8")
    settings = SETTINGS.format(
        core="\n    ".join(f"slm_energy/derive/energy/{name}.py" for name in CORE),
        tests="\n    ".join(f"tests/derive/energy/test_{name}.py" for name in TESTS),
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
