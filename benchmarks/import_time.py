"""What `import slm_energy` costs: seconds beyond an empty Python, and the modules that it loads.

    python benchmarks/import_time.py [--runs 20]

Prints the median and the slowest of fresh processes. The aim is below 0.2 s.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from statistics import median

CODE = """
import sys, time
before, begun = set(sys.modules), time.perf_counter()
import slm_energy
print(time.perf_counter() - begun, len(set(sys.modules) - before))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    runs = [_import() for _ in range(parser.parse_args().runs)]
    seconds = [run[0] for run in runs]
    print(f"import slm_energy: median {1e3 * median(seconds):.1f} ms, slowest", end=" ")
    print(f"{1e3 * max(seconds):.1f} ms, {runs[0][1]} modules")


def _import() -> tuple[float, int]:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    seconds, modules = done.stdout.split()
    return float(seconds), int(modules)


if __name__ == "__main__":
    main()
