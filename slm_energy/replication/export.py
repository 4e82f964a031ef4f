"""From a stored study to a package: records rewritten without personal data, then all that follows.

A package appears at once and complete, or not at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_energy import analysis, source_code
from slm_energy._version import __version__
from slm_energy.cell import flat
from slm_energy.config.options import ExportOptions
from slm_energy.derive import solved
from slm_energy.errors import ConfigError, TrackingError
from slm_energy.record import Record, TaskScore
from slm_energy.replication import anonymize, archive
from slm_energy.replication.anonymize import Names, Replacements
from slm_energy.replication.contents import REGISTRATION, contents
from slm_energy.replication.package import ABOUT, RECORDS, About, Package, in_order, stored
from slm_energy.replication.recompute import changes, recomputed
from slm_energy.scratch import scratch
from slm_energy.serialization import (
    from_plain,
    parse_json,
    readable,
    to_plain,
    write_files,
    write_json,
)
from slm_energy.store import artifacts
from slm_energy.store.offline import SWEEP_SUFFIX
from slm_energy.store.outbox import Spool
from slm_energy.store.tracking import Store
from slm_energy.worker.child import LOG_FILE

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[int, int], None]
"""Called with the numbers of exported trials and of all trials."""

_LEFT_OUT = (
    "Settings and logs of a cluster's jobs (`submitit/`, `job.json`), which name accounts.",
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """The result of `export`.

    Attributes:
        place: the package: a folder or a zip.
        digest: of its manifest, which identifies it.
        trials: number of records.
        changes: what computing the stored records again has changed, one line each.
        replaced: where the table of what was replaced is; None if nothing was.
    """

    place: Path
    digest: str
    trials: int
    changes: tuple[str, ...]
    replaced: Path | None


def export(
    store: Store,
    options: ExportOptions,
    report: Mapping[str, Any],
    pending: Path,
    *,
    registration: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Exported:
    """Write the package of a study.

    Args:
        store: has the study.
        options: where to, and what the package says of itself.
        report: options of its report (conf/analysis.yaml).
        pending: folder of records that were not sent to the store yet.
        registration: a file that the report compares the study with.
        progress: see `Progress`.

    Raises:
        ConfigError: `out` exists, an option is missing, or personal data are left.
        TrackingError: there is no such study, some records were not sent yet, or files are lost.
        AnalysisError: the trials allow no report.
    """
    checked = analysis.options(report)
    to = _free(options)
    declared = None if registration is None else _text_of(registration)
    frame = store.frame(checked.study)
    machines = analysis.chosen_machines(frame, checked.study, checked.machine)
    rows = frame[frame["machine"].isin(machines)].sort_values("started", kind="stable")
    _refuse_pending(pending, checked.study)
    partial = to.with_name(f"{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    folder = partial / to.stem
    try:
        folder.mkdir(parents=True)
        change = _replacements(store, rows, options, machines)
        trials, pairs = [], []
        for number, row in enumerate(rows.to_dict("records")):
            progress(number, len(rows))
            before, record = _add_trial(store, row, folder, change)
            trials.append(stored(record, change(str(row["machine"]))))
            pairs.append((_without_capture(before), _without_capture(record)))
        progress(len(rows), len(rows))
        for machine in machines:
            for sweep in store.sweeps(checked.study, machine):
                path = folder / RECORDS / change(machine) / f"{sweep.id}{SWEEP_SUFFIX}"
                write_json(path, change.everywhere(sweep))
        about = _about(store, options, to_plain(checked), machines, change, changes(pairs))
        write_files(folder, {ABOUT: readable(about).encode()})
        given = None
        if declared is not None:
            write_files(folder, {REGISTRATION: change(declared).encode()})
            given = str(folder / REGISTRATION)
        package = Package(folder, about, in_order(trials))
        write_files(folder, contents(package, about, given))
        _refuse_left(folder, change)
        digest = archive.write_manifest(folder)
        if options.zip:
            archive.pack(folder, partial / to.name)
            (partial / to.name).rename(to)
        else:
            folder.rename(to)
        return Exported(
            place=to,
            digest=digest,
            trials=len(trials),
            changes=about.changes,
            replaced=_table(to, change),
        )
    except OSError as error:
        raise ConfigError(
            f"out={options.out} cannot be written: {error.strerror or error}"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _free(options: ExportOptions) -> Path:
    """Where the package goes.

    Raises:
        ConfigError: something is there, or an option that the package needs is missing.
    """
    missing = [
        f"{key}={example}"
        for key, example in (
            ("out", "DIR"),
            ("data_license", "CC-BY-4.0"),
            ("authors", "['Ada Lovelace']"),
        )
        if not getattr(options, key) and not (key == "authors" and options.anonymize)
    ]
    if missing:
        raise ConfigError(f"a package needs {' and '.join(missing)}: add them to the command")
    place = Path(str(options.out)).absolute()
    if options.zip and place.suffix != ".zip":
        place = place.with_name(f"{place.name}.zip")
    if place.exists():
        raise ConfigError(f"out={options.out} exists: remove it, or name another place")
    return place


def _text_of(registration: Path) -> str:
    try:
        return registration.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"registration={registration} cannot be read: {error}") from error


def _refuse_pending(pending: Path, study: str) -> None:
    """A package of a part of a study would pass for all of it.

    Raises:
        TrackingError: records of the study wait on disk.
    """
    waiting = sum(
        record.trial.study == study
        for folder in sorted(pending.glob("*/"))
        for record in Spool(folder).outlines()
    )
    if waiting:
        raise TrackingError(
            f"{waiting} records of study={study} wait in {pending}: send them with slm-energy sync"
        )


def _replacements(
    store: Store, rows: pd.DataFrame, options: ExportOptions, machines: Sequence[str]
) -> Replacements:
    """What to replace, from the records themselves and from this machine."""
    users, hosts, keep = {getpass.getuser()}, set[str](), anonymize.vocabulary()
    hosts |= {machine.rpartition("-")[0] for machine in machines}
    for row in rows.to_dict("records"):
        record = from_plain(Record, parse_json(store.attached(row["run_id"], artifacts.RECORD)))
        users |= anonymize.users_in(anonymize.texts_of(record))
        with contextlib.suppress(TrackingError):  # a trial that did not run has no log
            users |= anonymize.users_in([store.attached(row["run_id"], LOG_FILE)])
        hosts |= {record.node, _host(record)}
        keep |= {str(value) for value in flat(record.trial.cell.settings).values()}
    names = Names(
        users=frozenset(filter(None, users)),
        machines=tuple(machines),
        hosts=frozenset(hosts - {""}) | frozenset(name.partition(".")[0] for name in hosts if name),
        words=options.words,
        strict=options.anonymize,
    )
    return Replacements(names, keep)


def _add_trial(
    store: Store, row: Mapping[Any, Any], folder: Path, change: Replacements
) -> tuple[Record, Record]:
    """Write one record to the package, computed again, with the scores that its run has got since.

    Returns:
        The record as stored, and as written.
    """
    with scratch() as place:
        store.download(str(row["run_id"]), place)
        before = _with_scores(artifacts.read(place), place, row)
        record = recomputed(before)
        capture = record.capture
        to = folder / RECORDS / change(str(row["machine"])) / record.trial.id
        host = change.hosts.get(_host(record))
        if capture is not None:
            record = dataclasses.replace(
                record, capture=dataclasses.replace(capture, generations=())
            )
        record = change.everywhere(record)
        if capture is not None and record.capture is not None:
            # One by one: a trial may have served a million requests.
            texts = (
                dataclasses.replace(each, text=each.text and change(each.text))
                for each in capture.generations
            )
            environment = record.capture.environment | ({"hostname": host} if host else {})
            changed = dataclasses.replace(
                record.capture,
                generations=artifacts.keep_generations(to, texts),
                environment=environment,
            )
            record = dataclasses.replace(record, capture=changed)
        prompts = {task: change(text) for task, text in artifacts.prompts(place).items()}
        to.mkdir(parents=True, exist_ok=True)
        artifacts.write(to, record, prompts)
        log = place / LOG_FILE
        if log.is_file():
            text = log.read_text(encoding="utf-8", errors="replace")
            (to / LOG_FILE).write_text(change(text), encoding="utf-8")
    return before, record


def _without_capture(record: Record) -> Record:
    return dataclasses.replace(record, capture=None)


def _host(record: Record) -> str:
    """The name of the host that a trial ran on; empty where it is not known."""
    capture = record.capture
    return "" if capture is None else str(capture.environment.get("hostname") or "")


def _with_scores(record: Record, folder: Path, row: Mapping[Any, Any]) -> Record:
    """A record with the scores that `slm-energy score` added to its run, if it did."""
    path = folder / artifacts.SCORES
    if not path.is_file():
        return record
    plain = parse_json(path.read_text(encoding="utf-8"))
    scores = tuple(from_plain(TaskScore, score) for score in plain["scores"])
    own = {k: v for k, v in record.metrics.items() if not solved.is_of_scores(k)}
    return dataclasses.replace(
        record,
        scores=scores,
        scoring=int(row["scored"] or 0),
        tests=str(row["tests"]),
        scored_in=plain.get("scored_in", ""),
        unscored=plain.get("unscored", ""),
        metrics=own | solved.metrics(scores, own),
    )


def _about(
    store: Store,
    options: ExportOptions,
    report: dict[str, Any],
    machines: Sequence[str],
    change: Replacements,
    changes: tuple[str, ...],
) -> About:
    study = str(report["study"])
    floors = {machine: store.noise_floors(machine) for machine in machines}
    texts = {machine: tuple(map(change, found[:1])) for machine, found in floors.items()}
    reasons = {machine: store.stopped(study, machine) for machine in machines}
    return About(
        study=study,
        title=options.title or f"Replication package of the study {study}",
        authors=() if options.anonymize else options.authors,
        data_license=str(options.data_license),
        code_license=options.code_license,
        version=__version__,
        code=source_code.digest(),
        analysis=change.everywhere(report),
        stopped={change(machine): change(why) for machine, why in reasons.items() if why},
        noise_floors={change(machine): found for machine, found in texts.items() if found},
        replaced={kind: len(found) for kind, found in sorted(change.done.items())},
        left_out=_LEFT_OUT,
        changes=changes,
    )


def _refuse_left(folder: Path, change: Replacements) -> None:
    """Read every file of the package again, and look for what should have been replaced.

    Raises:
        ConfigError: something is left.
    """
    for name in archive.files_below(folder):
        for text in anonymize.texts_in(folder / name):
            if (kind := change.left(text)) is not None:
                raise ConfigError(f"{name} would still have {kind}: please report this")


def _table(to: Path, change: Replacements) -> Path | None:
    """What was replaced by what, for the authors: beside the package, never in it."""
    if not change.done:
        return None
    path = to.with_name(f"{to.name}.replaced.json")
    path.touch(mode=0o600)
    path.write_text(readable(change.done), encoding="utf-8")
    return path
