"""Whether `slm-energy verify` finds what was changed in a package, and how long it takes.

    python benchmarks/tampering.py [--tamperings 100] [--untouched 20] [--seed 0] [--core]

A study of 12 trials of the scripted engine, measured by counters that a thread drives, is exported.
Copies of its package are changed at random: a reading, a token, a completion, an outcome, a number
in any text file, a byte, a file removed or added. Of each change is printed whether it was found

    manifest   by the digests of the files
    figures    from the captures alone, with a manifest that was made anew after the change
    digest     by the published digest of the package, with that manifest

and how many of the untouched copies, some of them zips, raised a false alarm. With `--core` the
package is also verified in a fresh environment that has no runtime of models, and the seconds of
that command are printed.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from slm_energy import run
from slm_energy.config.groups import TrackingConfig
from slm_energy.config.options import ExportOptions
from slm_energy.replication import archive
from slm_energy.replication.export import export
from slm_energy.replication.verify import verify
from slm_energy.store.tracking import Store
from slm_energy.testing import CONF
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant

_TEXTS = ("*.json", "*.md", "*.tex", "*.csv", "*.yaml", "*.cff", "*.svg", "*.html")
Tamper = Callable[[Path, random.Random], str]


def make_study(folder: Path) -> Store:
    """Run 4 cells in 3 rounds."""
    zones = (
        Zone(folder="intel-rapl:0", name="package-0", waveform=constant(50)),
        Zone(folder="intel-rapl:0:0", name="dram", waveform=constant(5)),
    )
    (folder / "powercap").mkdir()
    words = [
        *("-m", "--config-dir", str(CONF), "engine=scripted", "study.name=tampering"),
        *("engine.options.token_s=0.001,0.0015,0.002,0.003", "study.rounds=3"),
        *("study.reference=scripted", "study.sandbox=off", "study.gate.at_most_s=0"),
        *("measurement.limits.foreign_cpu_pct=100", "measurement.limits.steal_pct=100"),
        *("measurement.baseline_s=0.1", "measurement.serve_s=0.1", "measurement.target_error=0.05"),
        *("measurement.isolation=forkserver", "workload.limit=3", "workload.new_tokens=4"),
        f"measurement.powercap_root={folder / 'powercap'}",
        f"tracking.folder={folder / 'mlruns'}",
    ]
    with PowercapTree(folder / "powercap", zones):
        done = run(words, quiet=True)
    if not done.all_valid:
        sys.exit(done.trials.to_string())
    return Store(TrackingConfig(name="local", folder=str(folder / "mlruns")))


def _a(chance: random.Random, found: list[Path]) -> Path:
    return chance.choice(sorted(found))


def _rows(path: Path, change: Callable[[list[dict[str, Any]]], str]) -> str:
    """Change the rows of a Parquet file; return what was changed."""
    schema, rows = pyarrow.parquet.read_schema(path), pyarrow.parquet.read_table(path).to_pylist()
    what = change(rows)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), path)
    return what


def reading(package: Path, chance: random.Random) -> str:
    """One value of one source, by 1 to 20 %."""

    def change(rows: list[dict[str, Any]]) -> str:
        row = chance.choice([r for r in rows if r["raw_int"] or r["raw_float"]])
        name = "raw_int" if row["raw_int"] else "raw_float"
        row[name] = type(row[name])(row[name] * (1 + chance.uniform(0.01, 0.2)) + 1)
        return str(row["source"])

    return _rows(_a(chance, [*package.rglob("readings.parquet")]), change)


def token(package: Path, chance: random.Random) -> str:
    """One generated token id."""

    def change(rows: list[dict[str, Any]]) -> str:
        row = chance.choice([r for r in rows if r["output_ids"]])
        row["output_ids"][chance.randrange(len(row["output_ids"]))] += 1
        return f"pass {row['pass_index']}"

    return _rows(_a(chance, [*package.rglob("generations.parquet")]), change)


def completion(package: Path, chance: random.Random) -> str:
    """One generated text."""

    def change(rows: list[dict[str, Any]]) -> str:
        row = chance.choice([r for r in rows if r["text"] is not None])
        row["text"] += " "
        return str(row["task_id"])

    return _rows(_a(chance, [*package.rglob("generations.parquet")]), change)


def outcome(package: Path, chance: random.Random) -> str:
    """A valid trial becomes an invalid one."""
    path = _a(chance, [*package.rglob("record.json")])
    record = json.loads(path.read_text())
    record["outcome"] = {"name": "invalid", "reasons": ["disturbed"], "permanent": False}
    path.write_text(json.dumps(record))
    return ""


def number(package: Path, chance: random.Random) -> str:
    """One digit in any text file but the manifest."""
    files = [path for form in _TEXTS for path in package.rglob(form)]
    path = _a(chance, [each for each in files if re.search(r"\d", each.read_text())])
    text = path.read_text()
    place = chance.choice([match.start() for match in re.finditer(r"\d", text)])
    digit = chance.choice([each for each in "0123456789" if each != text[place]])
    path.write_text(text[:place] + digit + text[place + 1 :])
    return path.name


def byte(package: Path, chance: random.Random) -> str:
    """One byte of any file but the manifest."""
    path = _a(chance, [package / n for n in archive.files_below(package) if n != archive.MANIFEST])
    content = bytearray(path.read_bytes()) or bytearray(b" ")
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    return path.name


def missing(package: Path, chance: random.Random) -> str:
    """One file less."""
    path = _a(chance, [package / n for n in archive.files_below(package) if n != archive.MANIFEST])
    path.unlink()
    return path.name


def added(package: Path, chance: random.Random) -> str:
    """One file more."""
    folder = _a(chance, [path for path in package.rglob("*") if path.is_dir()])
    (folder / "more.txt").write_text("more\n")
    return folder.name


TAMPERINGS: tuple[Tamper, ...] = (
    reading, token, completion, outcome, number, number, byte, missing, added,
)  # fmt: skip


def _alarms(package: Path) -> bool:
    return bool(verify(package).differences)


def tampered(package: Path, folder: Path, tamperings: int, seed: int) -> None:
    """Print which changes were found, and how."""
    chance, digest = random.Random(seed), archive.digest(package)
    found = collections.defaultdict[str, collections.Counter[str]](collections.Counter)
    for count in range(tamperings):
        tamper = TAMPERINGS[count % len(TAMPERINGS)]
        copy = Path(shutil.copytree(package, folder / f"copy{count}"))
        what = tamper(copy, chance)
        seen = {"manifest": _alarms(copy)}
        archive.write_manifest(copy)
        seen |= {"figures": _alarms(copy), "digest": archive.digest(copy) != digest}
        found[tamper.__name__].update({"all": 1} | {k: int(v) for k, v in seen.items()})
        if not seen["figures"]:
            print(f"  only its digest tells: {tamper.__name__} {what}", flush=True)
        shutil.rmtree(copy)
    print(f"{'changed':12}{'copies':>8}{'manifest':>10}{'figures':>9}{'digest':>8}")
    for name, counts in found.items():
        print(
            f"{name:12}{counts['all']:8}{counts['manifest']:10}{counts['figures']:9}"
            f"{counts['digest']:8}"
        )
    sums = [sum(counts[key] for counts in found.values()) for key in ("manifest", "digest")]
    print(f"found: {sums[0]} of {tamperings} by the manifest, {sums[1]} by the published digest")
    if min(sums) < tamperings:
        sys.exit(1)


def untouched(package: Path, folder: Path, copies: int) -> None:
    """Print how many false alarms there are."""
    alarms, took_s = 0, []
    for count in range(copies):
        place = folder / f"untouched{count}"
        if count % 4 == 0:
            place = place.with_suffix(".zip")
            archive.pack(package, place)
        else:
            shutil.copytree(package, place)
        begun = time.perf_counter()
        alarms += _alarms(place)
        took_s.append(time.perf_counter() - begun)
    print(f"untouched: {alarms} false alarms in {copies}; {sorted(took_s)[copies // 2]:.1f} s each")
    if alarms:
        sys.exit(1)


def core(package: Path, folder: Path) -> None:
    """Verify in a fresh environment with the core of this checkout."""
    venv.create(folder / "core", with_pip=True)
    python, root = folder / "core" / "bin" / "python", Path(__file__).parents[1]
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", root / "constraints.txt", str(root)], check=True)
    asked = "import importlib.util as u; print([n for n in ('torch', 'onnx') if u.find_spec(n)])"
    runtimes = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True)
    begun = time.perf_counter()
    command = [folder / "core" / "bin" / "slm-energy", "verify", package]
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=environment, cwd=folder, check=False)
    print(
        f"core only (runtimes: {runtimes.stdout.strip()}): rc {done.returncode},"
        f" {time.perf_counter() - begun:.1f} s"
    )
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    """Make the study, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tamperings", type=int, default=100)
    parser.add_argument("--untouched", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--core", action="store_true", help="also in a fresh environment")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = make_study(folder)
        options = ExportOptions(
            out=str(folder / "package"), authors=("Ada Lovelace",), data_license="CC-BY-4.0"
        )
        package = export(store, options, {"study": "tampering"}, folder / "pending").place
        if arguments.core:
            core(package, folder)
        untouched(package, folder, arguments.untouched)
        tampered(package, folder, arguments.tamperings, arguments.seed)


if __name__ == "__main__":
    main()
