"""What the columns of a table probably are, by the names that people give them.

Used twice: a refusal shows the mapping as words to paste, and `columns=guess` takes it and says so.
A metric is guessed only with its unit, a factor only where no other column has the same meaning.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import pandas as pd

from slm_energy.analysis.external.columns import Columns, MetricColumn, by_name, units_of
from slm_energy.analysis.external.csv_file import ROW
from slm_energy.errors import AnalysisError, one_line
from slm_energy.escape import shell_override

_FACTORS = {
    "model": "model modelname llm checkpoint",
    "engine": "engine runtime backend framework",
    "provider": "provider executionprovider device accelerator",
    "engine.dtype": "dtype precision quantization quantisation",
    "engine.threads": "threads",
    "workload.batch_size": "batch batchsize",
    "workload.name": "workload dataset",
}
_REPETITION = "repetition rep repeat run trial iteration round"
_METRICS = (
    (r"energy|joules?", "energy/total_j"),
    (r"(cpu|package)energy", "energy/cpu_package_j"),
    (r"gpuenergy", "energy/gpu_j"),
    (r"energyper(output)?token|joulespertoken", "energy/per_output_token_j"),
    (r"(e2e|endtoend)?latency|responsetime", "latency/e2e_s"),
    (r"ttft|timetofirsttoken", "latency/ttft_s"),
    (r"itl|intertokenlatency|tpot", "latency/itl_s"),
    (r"time|duration|runtime|elapsed|walltime", "time/total_s"),
    (r"throughput|tokens|speed", "throughput/tokens_per_s"),
    (r"power|(mean|average|avg)power", "power/mean_w"),
    (r"memory|ram|(peak|max)(memory|ram)", "memory/peak_mb"),
)
"""Names without spaces and case, and the metric that each is; totals and averages alike."""
_UNIT_NAMES = {
    "joule": "J", "joules": "J", "watt": "W", "watts": "W", "sec": "s", "secs": "s",
    "second": "s", "seconds": "s", "tok/s": "tokens/s", "token/s": "tokens/s",
    "\u00b5s": "us", "\u03bcs": "us", "milliseconds": "ms",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Guess:
    """A mapping, and what was added to it.

    Attributes:
        columns: the whole mapping.
        added: `model from 'LLM'`, ... in words.
        words: the same as words of the command line.
        unused: columns without a known name.
    """

    columns: Columns
    added: tuple[str, ...]
    words: str
    unused: tuple[str, ...]


def guess(names: Sequence[str], given: Columns) -> Guess:
    """Find the columns that a mapping does not name, or names and the table does not have.

    Args:
        names: the columns of the table.
        given: what is known of them.
    """
    kept = {name: column for name, column in given.present.items() if column in names}
    factors, found = dict(kept), dict[str, str]()
    for factor, usual in _FACTORS.items():
        alike = [name for name in names if _bare(name) in usual.split()]
        if factor not in factors and len(alike) == 1 and alike[0] not in factors.values():
            factors[factor] = found[factor] = alike[0]
    metrics = given.metrics or tuple(filter(None, map(_metric, names)))
    metrics = tuple({metric.name: metric for metric in reversed(metrics)}.values())[::-1]
    runs = [name for name in names if _bare(name) in _REPETITION.split()]
    repetition = given.repetition
    if repetition is None and len(runs) == 1 and given.aggregate is None:
        repetition = runs[0]
    whole: dict[str, str | None] = {"model": None, "engine": None, "provider": None, **factors}
    new = [metric for metric in metrics if metric not in given.metrics]
    added = [f"{factor} from {column!r}" for factor, column in found.items()]
    added += [f"{m.name} from {m.column!r} in {m.unit or 'no unit'}" for m in new]
    words = [shell_override("columns.factors", whole)]
    if any(metric.name != metric.column for metric in new):
        words.append(shell_override("columns.metrics", [dataclasses.asdict(m) for m in metrics]))
    if repetition is not None and given.repetition is None:
        added.append(f"repetition from {repetition!r}")
        words.append(shell_override("columns.repetition", repetition))
    used = {*factors.values(), *(metric.column for metric in metrics), repetition, *given.keep}
    return Guess(
        columns=dataclasses.replace(given, factors=whole, metrics=metrics, repetition=repetition),
        added=tuple(added),
        words=" ".join(words),
        unused=tuple(name for name in names if name not in used),
    )


def taken(table: pd.DataFrame, given: Columns, where: str) -> tuple[Columns, str]:
    """The mapping of `columns=guess`, and what was guessed in a sentence.

    Args:
        table: all columns as text.
        given: keys that were set as well.
        where: `data=FILE`, for messages.

    Raises:
        AnalysisError: no factor or no metric was recognised, or a column that was not may be a
            factor: cells that differ in it would become one.
    """
    names = [str(name) for name in table.columns if name != ROW]
    found = guess(names, given)
    if not found.columns.present or not found.columns.metrics:
        what = "an engine or a model" if found.columns.metrics else "a metric with its unit"
        raise AnalysisError(
            f"{where}: no column has a usual name of {what}; it has "
            f"{one_line(', '.join(names), 300)}; name them with columns.factors and columns.metrics"
        )
    for name in found.unused:
        levels = table[name].nunique()
        texts = table[name].str.replace(r"[-+.,'\s%eE]", "", regex=True)
        is_measured = texts.str.fullmatch(r"\d*").all() and levels > len(table) / 2
        if levels > 1 and not is_measured:
            factors = found.columns.present | {f"engine.{_bare(name)}": name}
            raise AnalysisError(
                f"{where}: column {name!r} may be a factor, and cells that differ in it would be"
                f" one: add {shell_override('columns.factors', factors)}, or delete it"
            )
    unused = f"; not used: {', '.join(found.unused)}" if found.unused else ""
    return found.columns, f"Columns guessed: {', '.join(found.added) or 'none'}{unused}."


def proposal(table: pd.DataFrame, given: Columns) -> str:
    """The words to paste, as the end of a refusal; empty where too little is recognised."""
    found = guess([str(name) for name in table.columns if name != ROW], given)
    if not found.added or not found.columns.present or not found.columns.metrics:
        return ""
    return f"; probably {found.words}, which columns=guess takes as well"


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _metric(column: str) -> MetricColumn | None:
    """The metric that a head such as `Energy (Wh)`, `latency_ms` or `Tokens/s` names."""
    if (own := by_name(column)) is not None:
        return own
    parts = re.fullmatch(r"(.*?)[\s_]*[(\[]?([^\s_()\[\]]+)[)\]]?", column.strip())
    if parts is None:
        return None
    quantity, unit = parts[1] or parts[2].partition("/")[0], parts[2]
    unit = _UNIT_NAMES.get(unit.lower(), unit)
    for usual, name in _METRICS:
        units = units_of(name)
        fitting = next((each for each in (unit, unit.lower()) if each in units), None)
        if re.fullmatch(usual, _bare(quantity)) and fitting is not None:
            return MetricColumn(name=name, column=column, unit=fitting)
    return None
