"""A package on disk: what is where in it, and how the analysis reads it.

    package.json                 what it is: study, options of its report, licences, code version
    records/MACHINE/TRIAL/       one trial's record, with its capture (`store/artifacts.py`)
    records/MACHINE/SWEEP.sweep.json  one invocation, with its plan (`store/offline.py`)
    environment/                 versions of the engines' packages and of the sweeps'
    report/                      the report, made from these records
    checklist.md, checklist.tex  the reporting items of reviewers
    README.md  CITATION.cff  ro-crate-metadata.json
    manifest-sha256.txt          digests of all other files, as `sha256sum -c` reads them

`slm-energy sync` reads `records/` too: a copy of it can be sent to a store.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slm_energy.errors import ConfigError, TrackingError, one_line
from slm_energy.record import Record
from slm_energy.serialization import Json, from_plain, parse_json, read_json
from slm_energy.store import artifacts, frame, mlflow_schema
from slm_energy.store.mlflow_schema import PLAN_FILE
from slm_energy.store.offline import SWEEP_SUFFIX, Sweep, read_sweep
from slm_energy.store.trials import StoredTrial

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
ABOUT = "package.json"
RECORDS = "records"
REPORT = "report"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """What a package says of itself.

    Attributes:
        study: its name.
        title: of the package.
        authors: their names; empty in a package for double-blind review.
        data_license: SPDX id of the licence of captures, figures and texts.
        code_license: SPDX id of the licence of configurations and plans.
        version: of slm_energy, which made it.
        code: digest of its code (`source_code.py`).
        analysis: the options of the report (conf/analysis.yaml).
        stopped: machine to the reason why the study ended there before its last round.
        noise_floors: machine to its noise floors, the latest first, as the store has them.
        replaced: kind of personal data to how many distinct texts were replaced.
        left_out: what the store has and the package lacks, and why, one line each.
        changes: what computing the stored records again has changed, one line each.
        schema: version of this format.
    """

    study: str
    title: str
    authors: tuple[str, ...]
    data_license: str
    code_license: str
    version: str
    code: str
    analysis: dict[str, Json]
    stopped: dict[str, str]
    noise_floors: dict[str, tuple[str, ...]]
    replaced: dict[str, int]
    left_out: tuple[str, ...]
    changes: tuple[str, ...]
    schema: int = SCHEMA


def read_about(folder: Path) -> About:
    """Read `package.json`.

    Raises:
        ConfigError: the folder is no package, or one of a newer version.
    """
    path = folder / ABOUT
    try:
        plain = parse_json(path.read_text(encoding="utf-8"))
        schema = plain.get("schema") if isinstance(plain, Mapping) else None
        if isinstance(schema, int) and schema > SCHEMA:
            raise ConfigError(
                f"{folder}: a package of format {schema}, and this version reads {SCHEMA}: install"
                f" slm-energy {plain.get('version')} or newer"
            )
        return from_plain(About, plain)
    except FileNotFoundError:
        raise ConfigError(f"{folder}: not a package: it has no {ABOUT}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}: {ABOUT} cannot be read: {one_line(error)}") from error


def trial_folders(folder: Path) -> list[Path]:
    """Folders of the records of a package, machine by machine."""
    return sorted(path.parent for path in folder.glob(f"{RECORDS}/*/*/{artifacts.RECORD}"))


def record_of(folder: Path) -> Record:
    """A record without its requests and readings, which is fast.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return read_json(folder / artifacts.RECORD, Record)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder / artifacts.RECORD}: {one_line(error)}") from error


def in_order(trials: Iterable[StoredTrial]) -> list[StoredTrial]:
    """By the time at which they started, as the store lists them."""
    return sorted(trials, key=lambda trial: (trial.started_ms, trial.run_id))


def moment(unix_ms: int) -> datetime.datetime:
    """A time stamp of the store as a date, UTC."""
    return datetime.datetime.fromtimestamp(unix_ms / 1000, datetime.UTC)


def distinct(frame: pd.DataFrame, names: Sequence[str]) -> list[tuple[str, ...]]:
    """The distinct combinations of settings, in the order of the trials; empty where unset."""
    known = frame.reindex(columns=list(names)).fillna("").astype(str).replace("None", "")
    return list(dict.fromkeys(known.itertuples(index=False, name=None)))


def stored(record: Record, machine: str) -> StoredTrial:
    """A record as a trial in the store has it; its run id is the trial's."""
    tags = mlflow_schema.tags(record, machine) | {"slm.outcome": record.outcome.name}
    started_ms = record.started_unix_ns // 1_000_000
    values = mlflow_schema.metrics(record)
    return StoredTrial(record.trial.id, started_ms, tags, mlflow_schema.params(record), values)


class Package:
    """The study in a package, for what reads stored studies (`store/reading.py`)."""

    def __init__(self, folder: Path, about: About, trials: Sequence[StoredTrial]) -> None:
        """Take what was read of it.

        Args:
            folder: of the package.
            about: what it says of itself.
            trials: as `in_order` has them.
        """
        self._folder = folder
        self._about = about
        self._trials = trials
        self._places = {path.name: path for path in trial_folders(folder)}

    def frame(self, study: str) -> pd.DataFrame:
        """One row per trial (`store/frame.py`)."""
        return frame.of_trials([self._trials], self.attached)

    def attached(self, run_id: str, name: str) -> str:
        """Read a text file of a trial.

        Raises:
            TrackingError: there is none.
        """
        return self.artifact(run_id, name).decode()

    def artifact(self, run_id: str, name: str) -> bytes:
        """Read a file of a trial.

        Raises:
            TrackingError: there is none.
        """
        try:
            return (self._places[run_id] / name).read_bytes()
        except (KeyError, OSError) as error:
            raise TrackingError(f"the package has no {name} of trial {run_id}") from error

    def sweeps(self, machine: str) -> list[Sweep]:
        """The invocations on a machine, oldest first.

        Raises:
            TrackingError: one cannot be read.
        """
        paths = (self._folder / RECORDS / machine).glob(f"*{SWEEP_SUFFIX}")
        return sorted(map(read_sweep, paths), key=lambda sweep: (sweep.started_ms, sweep.id))

    def plans(self, study: str, machine: str) -> Iterator[str]:
        """`plan.json` of each invocation on a machine that has one, oldest first."""
        for sweep in self.sweeps(machine):
            if sweep.plan is not None and PLAN_FILE in sweep.files:
                yield sweep.files[PLAN_FILE]

    def stopped(self, study: str, machine: str) -> str:
        """Why the study ended before its last round, or ""."""
        return self._about.stopped.get(machine, "")

    def noise_floors(self, machine: str) -> list[str]:
        """The noise floors of a machine, the latest first."""
        return list(self._about.noise_floors.get(machine, ()))
