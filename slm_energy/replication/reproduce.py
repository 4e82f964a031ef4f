"""The plan of a package on this machine: what to run, and what became of its claims.

The settings of every cell are those of the package. Words of the command line change them: a key
sets its value in all cells (`model.weights=random`), a group chooses among them (`engine=torch`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from slm_energy.analysis.result.report import Report
from slm_energy.cell import Settings, is_sentinel, settings
from slm_energy.config.compose import compose_grid
from slm_energy.config.groups import RunConfig, StudyConfig
from slm_energy.errors import AnalysisError, ConfigError
from slm_energy.planning.grid import Grid
from slm_energy.record import Record
from slm_energy.replication import archive
from slm_energy.replication.claims import Claim, claims
from slm_energy.replication.package import (
    About,
    Package,
    in_order,
    read_about,
    record_of,
    stored,
    trial_folders,
)
from slm_energy.running.report import study_report
from slm_energy.running.resume import machine_of
from slm_energy.serialization import from_plain
from slm_energy.store.tracking import open_existing

_FACTORS = ("model", "engine", "provider", "workload")
_GROUPS = (*_FACTORS, "measurement")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reproduction:
    """What a package asks to run.

    Attributes:
        about: what the package says of itself.
        report: its report: what is claimed.
        cells: id of a cell of the package to its settings here, as text.
        configs: one per cell.
    """

    about: About
    report: Report
    cells: dict[str, str]
    configs: list[RunConfig]

    def claims(self, grid: Grid) -> tuple[Claim, ...]:
        """The claims beside the trials of this machine, once they have run.

        Raises:
            TrackingError: they cannot be read.
        """
        here = {repr(cell.settings): cell.id for cell in grid.cells}
        unsupported = {repr(cell.settings): reason for cell, reason in grid.unsupported}
        ids = {old: here[key] for old, key in self.cells.items() if key in here}
        reasons = {old: unsupported[key] for old, key in self.cells.items() if key in unsupported}
        config = grid.config
        asked = {**self.about.analysis, "study": config.study.name, "machine": machine_of(config)}
        reference = str(asked["reference"])
        asked["reference"] = ids.get(reference, asked["reference"])
        again = None
        try:
            again = study_report(open_existing(config.tracking), asked).result
        except AnalysisError as error:
            reasons = {old: str(error) for old in self.cells} | reasons
        else:
            failed = {out.name: out.reason for out in again.left_out if out.scope == "cell"}
            names = {cell.id: failed.get(cell.label, "") for cell in again.cells}
            reasons |= {old: names[new] for old, new in ids.items() if names.get(new)}
        return claims(self.report, again, ids, reasons)


def read(place: Path, words: Sequence[str]) -> Reproduction:
    """Read a package, and apply the words of the command line to its plan.

    Args:
        place: a folder or a zip.
        words: KEY=VALUE, as of a run.

    Raises:
        ConfigError: it is no package, its files have changed, or a word is not valid.
        AnalysisError: its trials allow no report.
    """
    with archive.opened(place) as folder:
        about = read_about(folder)
        if differences := archive.check_manifest(folder):
            raise ConfigError(
                f"{place}: {differences[0].file} is not as it was packed ({differences[0].why}):"
                f" slm-energy verify {place} shows what differs"
            )
        records = [(record_of(path), path.parent.name) for path in trial_folders(folder)]
        package = Package(folder, about, in_order(stored(*each) for each in records))
        report = study_report(package, about.analysis).result
        shown = {cell.id for cell in report.cells}
        planned = {
            record.trial.cell.id: record
            for record, _ in records
            if record.trial.cell.id in shown and not is_sentinel(record.trial.cell)
        }
        machines = dict.fromkeys(machine for _, machine in records)
        plans = [plan for machine in machines for plan in package.plans(about.study, machine)]
    if not plans:
        raise ConfigError(f"{place}: it has no plan, so that it cannot be run again")
    study = from_plain(StudyConfig, json.loads(plans[-1])["study"])
    return _changed(about, report, planned, study, words)


def _changed(
    about: About,
    report: Report,
    planned: dict[str, Record],
    study: StudyConfig,
    words: Sequence[str],
) -> Reproduction:
    """The plan with the words of the command line.

    Raises:
        ConfigError: a word is not valid, or no cell is left.
    """
    chosen = dict(_chosen(words))
    [base] = compose_grid([word for word in words if word.partition("=")[0] not in _FACTORS])
    keys = {tuple(word.partition("=")[0].lstrip("+").split(".")[:2]) for word in words}
    study = dataclasses.replace(
        study,
        **{"name": f"{about.study}-reproduced", "exclude": ()}
        | {key[1]: getattr(base.study, key[1]) for key in keys if key[0] == "study"},
    )
    levels_of = dict[str, Settings]()
    for name, record in planned.items():
        levels = record.trial.cell.settings
        if any(getattr(levels, group).name not in names for group, names in chosen.items()):
            continue
        if ("measurement",) in keys:
            levels = dataclasses.replace(levels, measurement=base.measurement)
        for group in _GROUPS:
            given = getattr(base, group)
            own = {key[1]: getattr(given, key[1]) for key in keys if key[0] == group and key[1:]}
            changed = dataclasses.replace(getattr(levels, group), **own)
            levels = dataclasses.replace(levels, **{group: changed})
        levels_of[name] = levels
    if not levels_of:
        raise ConfigError(f"{' '.join(words)}: the package has no such cell")
    configs = [
        dataclasses.replace(
            base,
            study=study,
            **{field.name: getattr(levels, field.name) for field in dataclasses.fields(levels)},
        )
        for levels in levels_of.values()
    ]
    cells = {name: repr(settings(config)) for name, config in zip(levels_of, configs, strict=True)}
    return Reproduction(about=about, report=report, cells=cells, configs=configs)


def _chosen(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The names of a factor that `engine=torch,onnx` chooses."""
    for word in words:
        group, _, names = word.partition("=")
        if group in _FACTORS:
            yield group, names.split(",")
