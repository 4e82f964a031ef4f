"""Two studies side by side: which cells belong together, and what else changed between them.

Cells are matched by the names of model, engine, provider and workload, and by as few further
settings as distinguish the cells of one study. All other facts of two matched cells should be
equal, or a ratio has more than one possible cause. They are sorted into groups, which `allow` lets
differ.

Where facts come from: settings, digests and versions are params of every trial; kernel, processor,
driver, settings in force and metered domains are in the files of one valid trial of each cell and
sweep invocation, since none of them changes while a sweep runs.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from slm_energy.analysis.result.design import LeftOut
from slm_energy.analysis.trials.answers import ReadArtifact
from slm_energy.analysis.trials.frame import Study
from slm_energy.cell import PLACES
from slm_energy.distributions import BUILDS
from slm_energy.errors import AnalysisError

Group = Literal[
    "machine", "kernel", "driver", "versions", "scope", "measurement", "model", "workload", "engine"
]

_NAMES = ("model.name", "engine.name", "provider.name", "workload.name")
_DIGESTS = ("model.digest", "workload.digest")
_ORDER = ("engine.", "provider.", "model.", "workload.", "measurement.", *_DIGESTS, "version.")
_GROUPS: dict[str, Group] = {
    "version": "versions", "model": "model", "workload": "workload", "engine": "engine",
    "provider": "engine", "effective": "engine", "measurement": "measurement", "scope": "scope",
    "environment.python": "versions", "environment.platform": "kernel",
    "environment.nvidia_driver": "driver", "environment.isolation": "measurement",
    "effective.device_uuid": "machine", "effective.device_pci": "machine",
    "environment.rapl_energy_filter": "measurement",
}  # fmt: skip
_PROCESSES = ("pid", "adopted")
"""Process ids in the effective settings: they differ from trial to trial."""
_ADDED = (
    *("effective.device_uuid", "effective.device_pci", "effective.device_type"),
    *("environment.memory_gib", "environment.governor"),
    *(f"version.{BUILDS}", "workload.tests"),
)
"""Facts that older studies do not record: compared only where both have them."""

_NOT_KNOWN = (("rapl_energy_filter", "unknown"), ("rapl_energy_filter", "none"))
"""Of the environment: as if it had not been recorded, which older studies did not."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A fact in which two studies differ.

    Attributes:
        group: what `allow` calls it.
        fact: which, such as `version.torch`.
        a: its values in the first study; none where it is not recorded.
        b: its values in the second.
        cells: in how many of the matched cells.
        allowed: it may differ.
    """

    group: Group
    fact: str
    a: tuple[str, ...]
    b: tuple[str, ...]
    cells: int
    allowed: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MatchedCells:
    """The cells that have a valid trial in both studies.

    Attributes:
        pairs: their ids in both, in the order of the first study.
        matched_by: the settings that they were matched by.
        left_out: the other cells.
    """

    pairs: tuple[tuple[str, str], ...]
    matched_by: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


def match(a: Study, b: Study) -> MatchedCells:
    """Find the cells that have a valid trial in both studies.

    Raises:
        AnalysisError: there is no such cell.
    """
    rows = [{cell: _params(study, cell) for cell in study.cells} for study in (a, b)]
    keys = _distinguishing(rows)
    theirs = {_levels(row, keys): cell for cell, row in rows[1].items()}
    matched = [
        (cell, theirs[levels])
        for cell, row in rows[0].items()
        if (levels := _levels(row, keys)) in theirs
    ]
    if not matched:
        raise AnalysisError(
            f"{a.name} and {b.name} have no cell in common: {a.name} has {_some(a)}; {b.name} has"
            f" {_some(b)}"
        )
    left_out = []
    for study, other, at in ((a, b, 0), (b, a, 1)):
        alone = set(study.cells) - {pair[at] for pair in matched}
        left_out += [
            LeftOut(scope="cell", name=study.labels[cell], reason=f"not in {other.name}")
            for cell in study.cells
            if cell in alone
        ]
        left_out += [
            dataclasses.replace(out, reason=f"in {study.name} {out.reason}")
            for out in study.left_out()
        ]
    valid = [set(study.valid["cell"]) for study in (a, b)]
    pairs = tuple(pair for pair in matched if pair[0] in valid[0] and pair[1] in valid[1])
    if not pairs:
        raise AnalysisError(f"no cell has a valid trial in both {a.name} and {b.name}")
    return MatchedCells(pairs=pairs, matched_by=keys, left_out=tuple(left_out))


def _some(study: Study) -> str:
    rows = (study.settings[cell] for cell in study.cells)
    names = [" / ".join(str(row[key]) for key in _NAMES if key in row) for row in rows]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _distinguishing(studies: Sequence[Mapping[str, Mapping[str, str]]]) -> tuple[str, ...]:
    """The names, and as few settings as distinguish the cells of each study."""
    known = {key for rows in studies for row in rows.values() for key in row}
    keys = [key for key in _NAMES if key in known]
    for key in sorted(known - set(keys), key=_rank):
        if any(_distinct(rows, [*keys, key]) > _distinct(rows, keys) for rows in studies):
            keys.append(key)
    return tuple(keys)


def _params(study: Study, cell: str) -> dict[str, str]:
    """Settings, digests and versions of a cell; not where its files were."""
    first = study.trials[study.trials["cell"] == cell].iloc[0]
    versions = {
        str(key): str(value)
        for key, value in first.items()
        if str(key).startswith("version.") and pd.notna(value)
    }
    settings = {key: str(value) for key, value in study.settings[cell].items()}
    return {key: value for key, value in (settings | versions).items() if key not in PLACES}


def _rank(key: str) -> tuple[int, str]:
    """Settings come before measurement, digests and versions: the latter are meant to change."""
    exact = key in _DIGESTS
    rank = next(i for i, p in enumerate(_ORDER) if (key == p if exact else key.startswith(p)))
    return rank, key


def _levels(row: Mapping[str, str], keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(row.get(key, "none") for key in keys)


def _distinct(rows: Mapping[str, Mapping[str, str]], keys: list[str]) -> int:
    return len({_levels(row, keys) for row in rows.values()})


def differences(
    sides: tuple[tuple[Study, ReadArtifact], tuple[Study, ReadArtifact]],
    matched: MatchedCells,
    allow: Iterable[str],
) -> tuple[Difference, ...]:
    """Compare all facts of matched cells but those they were matched by.

    Args:
        sides: each study, and how its trials' files are read.
        matched: from `match`.
        allow: groups that may differ, or `all`.
    """
    counts: Counter[tuple[str, tuple[str, ...], tuple[str, ...]]] = Counter()
    skip, allowed = set(matched.matched_by), set(allow)
    for pair in matched.pairs:
        a, b = (_facts(*side, cell) for side, cell in zip(sides, pair, strict=True))
        for fact in sorted((a.keys() | b.keys()) - skip):
            left, right = a.get(fact, ()), b.get(fact, ())
            if left != right and (fact not in _ADDED or (left and right)):
                counts[fact, left, right] += 1
    rows = [
        Difference(
            group=group_of(fact),
            fact=fact,
            a=left,
            b=right,
            cells=cells,
            allowed=bool(allowed & {group_of(fact), "all"}),
        )
        for (fact, left, right), cells in counts.items()
    ]
    return tuple(sorted(rows, key=lambda row: (row.group, row.fact, -row.cells)))


def group_of(fact: str) -> Group:
    """What `allow` calls a fact; parts of the environment without a group belong to the machine."""
    return _GROUPS.get(fact) or _GROUPS.get(fact.partition(".")[0], "machine")


def _facts(study: Study, attached: ReadArtifact, cell: str) -> dict[str, tuple[str, ...]]:
    """Fact to its distinct values over a cell's sweep invocations."""
    valid = study.valid[study.valid["cell"] == cell].drop_duplicates("sweep")
    seen: dict[str, set[str]] = {key: {value} for key, value in _params(study, cell).items()}
    seen["machine"] = {study.machine}
    if "tests" in valid and (tests := set(valid["tests"].dropna()) - {""}):
        seen["workload.tests"] = tests
    for run in valid["run_id"]:
        for fact, value in _attached_facts(run, attached).items():
            seen.setdefault(fact, set()).add(value)
    return {fact: tuple(sorted(values)) for fact, values in seen.items()}


def _attached_facts(run: str, attached: ReadArtifact) -> dict[str, str]:
    """The facts in one trial's files."""
    files = json.loads(attached(run, "environment.json"))
    facts = {
        f"environment.{key}": str(value)
        for key, value in files["environment"].items()
        # Params and the machine's name have the first two.
        if key not in ("versions", "hostname") and (key, value) not in _NOT_KNOWN
    }
    facts |= {
        f"effective.{key}": str(value)
        for key, value in files["effective"].items()
        # Without figures that the engine measured, which are no settings.
        if key not in _PROCESSES and not isinstance(value, float)
    }
    figures = json.loads(attached(run, "energy.json"))
    summed = [figure for figure in figures if figure["summed"] and figure["window"] == "serve"]
    if summed:
        facts["scope"] = _scope(summed)
        facts["sources"] = " + ".join(sorted(figure["source_id"] for figure in summed))
    return facts


def _scope(summed: Iterable[Mapping[str, Any]]) -> str:
    """Which domains are added up, and of how many devices: `cpu_package + 2 gpu`."""
    counts = Counter(str(figure["domain"]) for figure in summed)
    return " + ".join(f"{n} {name}" if n > 1 else name for name, n in sorted(counts.items()))
