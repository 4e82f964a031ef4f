"""Everything in a package that follows from its captures, computed again and compared.

manifest   the files are those that were packed
records    joules, intervals, checks, metrics, outcome and files of each trial, from its capture
plan       each trial's cell and plan are those that its settings and the plan's facts give
report     tables, figures, verdicts, README and metadata, from the records as computed here
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from slm_energy import source_code
from slm_energy._version import __version__
from slm_energy.cell import PLACES, cell_id, flat
from slm_energy.errors import SlmEnergyError, one_line
from slm_energy.planning.freeze import Frozen
from slm_energy.record import Record
from slm_energy.replication import archive
from slm_energy.replication.anonymize import USER
from slm_energy.replication.contents import REGISTRATION, contents
from slm_energy.replication.differences import Difference, compare
from slm_energy.replication.package import (
    ABOUT,
    RECORDS,
    About,
    Package,
    in_order,
    read_about,
    stored,
    trial_folders,
)
from slm_energy.replication.recompute import recomputed
from slm_energy.scratch import scratch
from slm_energy.serialization import from_plain
from slm_energy.store import artifacts
from slm_energy.store.offline import SWEEP_SUFFIX
from slm_energy.store.trials import StoredTrial
from slm_energy.worker.child import LOG_FILE

Progress = Callable[[int, int], None]
"""Called with the numbers of verified trials and of all trials."""
_PACKED = re.compile(
    rf"{ABOUT}|{archive.MANIFEST}|{REGISTRATION}|{RECORDS}/[^/]+/[^/]+{SWEEP_SUFFIX}"
    rf"|{RECORDS}/[^/]+/[^/]+/(capture/(generations|readings|reference)\.parquet|{LOG_FILE})"
)
"""What a package holds as it was packed; all else is made again from it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """The result of `verify`.

    Attributes:
        study: name of the study.
        digest: of the manifest, which identifies the package.
        differences: what is not as claimed.
        trials: number of records.
        recomputed: number of files that were made again and compared.
        files: number of files whose digest was checked.
        made_with: version and code of slm_energy that made the package.
        other_code: this is not that code.
    """

    study: str
    digest: str
    differences: tuple[Difference, ...]
    trials: int
    recomputed: int
    files: int
    made_with: str
    other_code: bool


def verify(place: Path, progress: Progress = lambda done, total: None) -> Verification:
    """Verify a package, a folder or a zip.

    Raises:
        ConfigError: it is no package, or one of a newer version; nothing was unpacked from a zip
            with unsafe entries.
    """
    with archive.opened(place) as folder:
        about = read_about(folder)
        differences = archive.check_manifest(folder)
        remade, trials, folders = set[str](), list[StoredTrial](), trial_folders(folder)
        for number, trial_folder in enumerate(folders):
            progress(number, len(folders))
            name = trial_folder.relative_to(folder).as_posix()
            try:
                record, made, found = _recomputed(trial_folder)
            except (OSError, ValueError, SlmEnergyError) as error:
                found, made = [_unreadable(artifacts.RECORD, error)], {}
            else:
                trials.append(stored(record, trial_folder.parent.name))
            differences += [dataclasses.replace(each, file=f"{name}/{each.file}") for each in found]
            remade |= {f"{name}/{each}" for each in made}
        progress(len(folders), len(folders))
        package = Package(folder, about, in_order(trials))
        differences += _plans(package, trials)
        found, made = _report(folder, package, about)
        differences += found
        remade |= set(made)
        differences += _unknown(folder, remade)
        return Verification(
            study=about.study,
            digest=archive.digest(folder),
            differences=tuple(_explained(differences, about)),
            trials=len(folders),
            recomputed=len(remade),
            files=len(archive.files_below(folder)),
            made_with=f"slm-energy {about.version} (code {about.code})",
            other_code=about.code != source_code.digest(),
        )


def _unknown(folder: Path, remade: set[str]) -> Iterator[Difference]:
    """Files that no package has, whatever its manifest says."""
    for name in archive.files_below(folder):
        if name not in remade and not _PACKED.fullmatch(name):
            yield Difference(
                file=name, where="", claimed="there", found="nothing of a study is kept there"
            )


def _recomputed(folder: Path) -> tuple[Record, dict[str, bytes], list[Difference]]:
    """A record as computed from its capture, its files, and how both differ from the claimed."""
    claimed = artifacts.read(folder)
    record = recomputed(claimed)
    with scratch() as place:
        artifacts.write(place, record, artifacts.prompts(folder))
        made = {
            name: (place / name).read_bytes()
            for name in archive.files_below(place)
            if not name.startswith("capture/")
        }
    return record, made, [*_compared(folder, made), *_identity(record)]


def _compared(folder: Path, made: Mapping[str, bytes]) -> Iterator[Difference]:
    """How the files of a folder differ from those that were made again."""
    for name, content in made.items():
        path = folder / name
        yield from compare(name, path.read_bytes() if path.is_file() else None, content)


def _identity(record: Record) -> Iterator[Difference]:
    """A trial's cell is named by what can change its result.

    Unless an option of its engine had a path in a home folder: that was replaced.
    """
    cell = record.trial.cell
    levels = {key: value for key, value in flat(cell.settings).items() if key not in PLACES}
    if any(f"/{USER}" in str(value) for value in levels.values()):
        return
    found = cell_id(
        cell.settings, cell.model_digest, cell.workload_digest, cell.versions, cell.trace_digest
    )
    if found != cell.id:
        yield Difference(file=artifacts.RECORD, where="trial.cell.id", claimed=cell.id, found=found)


def _plans(package: Package, trials: list[StoredTrial]) -> Iterator[Difference]:
    """Each plan has the digest of its facts, and each trial that of a plan."""
    known = dict[tuple[str, str], str]()
    for machine in sorted({trial.tags["slm.machine"] for trial in trials}):
        for sweep in package.sweeps(machine):
            known[machine, sweep.id] = sweep.plan or ""
            for name, text in sweep.files.items():
                frozen = from_plain(Frozen, json.loads(text)["frozen"])
                if frozen.digest != sweep.plan:
                    yield Difference(
                        file=f"{RECORDS}/{machine}/{sweep.id}{SWEEP_SUFFIX}",
                        where=name,
                        claimed=sweep.plan or "none",
                        found=frozen.digest,
                    )
    for trial in trials:
        machine, sweep_id, plan = (trial.tags[f"slm.{key}"] for key in ("machine", "sweep", "plan"))
        planned = known.get((machine, sweep_id), "")
        if planned != plan:
            yield Difference(
                file=f"{RECORDS}/{machine}/{trial.run_id}/{artifacts.RECORD}",
                where="trial.plan",
                claimed=plan,
                found=planned or "no such sweep",
            )


def _report(
    folder: Path, package: Package, about: About
) -> tuple[list[Difference], dict[str, bytes]]:
    registration = folder / REGISTRATION
    try:
        made = contents(package, about, str(registration) if registration.is_file() else None)
    except SlmEnergyError as error:
        return [_unreadable("report", error)], {}
    return list(_compared(folder, made)), made


def _unreadable(file: str, error: Exception) -> Difference:
    return Difference(
        file=file, where="", claimed="can be computed", found=f"cannot be: {one_line(error)}"
    )


def _explained(differences: list[Difference], about: About) -> Iterator[Difference]:
    """A reason for those that have none of their own."""
    code = source_code.digest()
    why = (
        "the value was changed: it was computed by the same code"
        if about.code == code
        else f"the value was changed, or computed otherwise by slm-energy {about.version} (code"
        f" {about.code}; this is {__version__}, code {code})"
    )
    for each in differences:
        yield each if each.why else dataclasses.replace(each, why=why)
