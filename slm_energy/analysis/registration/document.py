"""A registration: hypotheses, metrics, margin, families, stopping rule and plan, before any trial.

It is a YAML file. Its last entry is the SHA-256 digest of all others, so that an edit shows. Anyone
who edits the file can also compute a new digest: it is evidence once the file, or its digest, has
been published.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from slm_energy._version import __version__
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.text.phrases import times
from slm_energy.cell import Cell, cell_levels, is_sentinel, joined_levels
from slm_energy.config.options import AnalysisOptions
from slm_energy.errors import ConfigError, one_line
from slm_energy.planning.freeze import Frozen
from slm_energy.planning.plan import Plan
from slm_energy.serialization import Json, from_plain, to_plain

SCHEMA = 1
_HEAD = """\
# A registration of slm-energy: what was declared before the study. Do not edit it: the digest at
# the end is that of its content. slm-energy report study=NAME registration=FILE compares.
"""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Registration:
    """What was declared.

    Attributes:
        schema: version of this format.
        study: its name.
        machine: where it is to run, by its name in the store.
        registered: when, ISO 8601 in UTC, by the clock of that machine.
        slm_energy: version of this package.
        hypotheses: in sentences: those that follow from the options, then the authors' own.
        analysis: keys of conf/analysis.yaml that verdicts depend on: metrics, margin, families, ...
        rounds: planned; the most if there is a precision.
        precision_pct: `study.precision_pct`, which may end the study earlier; None without it.
        cells: id to label of the planned cells.
        left_out: label to reason of combinations that are excluded, or that cannot run there.
        trials_before: trials of the study that had been run by then.
        plan_digest: of `plan`, as it is stored with every sweep.
        plan: what the plan depends on.
    """

    schema: int
    study: str
    machine: str
    registered: str
    slm_energy: str
    hypotheses: tuple[str, ...]
    analysis: dict[str, Json]
    rounds: int
    precision_pct: float | None
    cells: dict[str, str]
    left_out: dict[str, str]
    trials_before: int
    plan_digest: str
    plan: Frozen

    @property
    def digest(self) -> str:
        """64 hex digits of the content."""
        return _digest(to_plain(self))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RegistrationFile:
    """A registration as a file has it.

    Attributes:
        registration: the content.
        digest: of the content, with the keys that the file has: another version may have others.
        stated_digest: what the file states: another one if the file was edited.
    """

    registration: Registration
    digest: str
    stated_digest: str


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def register(
    plan: Plan,
    frozen: Frozen,
    options: AnalysisOptions,
    *,
    machine: str,
    registered: str,
    stated: Sequence[str] = (),
) -> Registration:
    """Declare a study.

    Args:
        plan: its plan.
        frozen: what the plan depends on.
        options: how it will be analysed.
        machine: where it is to run.
        registered: when, ISO 8601.
        stated: hypotheses in the authors' words.
    """
    cells = {trial.cell.id: trial.cell for trial in plan.trials if not is_sentinel(trial.cell)}
    unsupported = {plan.labels[cell.id]: reason for cell, reason in plan.unsupported}
    analysis = to_plain(options)
    for key in ("study", "machine", "carbon", "price_per_kwh"):  # no verdict depends on them
        del analysis[key]
    return Registration(
        schema=SCHEMA,
        study=plan.study.name,
        machine=machine,
        registered=registered,
        slm_energy=__version__,
        hypotheses=(*_hypotheses(list(cells.values()), options), *stated),
        analysis=analysis,
        rounds=plan.study.rounds,
        precision_pct=plan.study.precision_pct,
        cells={name: plan.labels[name] for name in cells},
        left_out={out.label: out.reason for out in plan.excluded} | unsupported,
        trials_before=sum(trial.attempts for trial in plan.trials),
        plan_digest=frozen.digest,
        plan=frozen,
    )


def _hypotheses(cells: Sequence[Cell], options: AnalysisOptions) -> list[str]:
    """What the options test, family by family; then what further metrics add."""
    first, *others = (Metric(name=name) for name in options.metrics)
    margin = f"{100 * options.margin:g} %"
    sentences = []
    for name, size in _families(cells, options).items():
        where = f"{name}: " if name else ""
        if size < 2:
            sentences.append(f"{where}one cell, which is compared with none.")
            continue
        which = (
            f"each of {times(size, 'cell')} against {options.reference}"
            if options.reference
            else f"any two of {times(size, 'cell')}"
        )
        sentences.append(
            f"{where}{first.title} of {which} differs by more than {margin} (two-sided; the null"
            f" hypothesis is a difference of at most {margin})."
        )
    if others:
        names = ", ".join(metric.title for metric in others)
        sentences.append(f"Secondary, with the same margin: {names}.")
    return sentences


def _families(cells: Sequence[Cell], options: AnalysisOptions) -> dict[str, int]:
    """Name of a family to its number of cells, as the report will name them."""
    levels = [cell_levels(cell) for cell in cells]
    keys = [name if "." in name else f"{name}.name" for name in options.families]
    varying = [key for key in keys if len({str(row.get(key)) for row in levels}) > 1]
    names = [joined_levels([str(row.get(key)) for key in varying]) for row in levels]
    return {name: names.count(name) for name in dict.fromkeys(names)}


def to_text(registration: Registration) -> str:
    """As it is written to a file."""
    content = to_plain(registration) | {"digest": registration.digest}
    return _HEAD + str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=96))


def read(path: Path) -> RegistrationFile:
    """Read a file.

    Raises:
        ConfigError: it cannot be read, or is no registration.
    """
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, Mapping):
            raise ValueError("it is not a mapping")
        plain = {key: value for key, value in content.items() if key != "digest"}
        return RegistrationFile(
            registration=from_plain(Registration, plain),
            digest=_digest(plain),
            stated_digest=str(content.get("digest", "none")),
        )
    except OSError as error:
        raise ConfigError(f"registration={path}: {error.strerror or error}") from error
    except (TypeError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(
            f"registration={path} is not a registration of this version ({one_line(error)}):"
            " slm-energy plan --register FILE writes one"
        ) from error
