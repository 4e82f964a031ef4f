"""Joules per request and latency against the load: `Report.under_load`. Pure.

A configuration is what cells have in common that differ in `load.rate` (an open loop) or in
`load.clients` (a closed one) alone. Configurations are compared at equal load, within rounds.

A load is admissible if it does not saturate and 95 % of its requests are good, as is so where the
95th percentile of what is promised keeps its limit; requests that were refused or failed are not
good. The lower end of the interval over trials must be that large too.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from slm_energy.analysis.resolve_design import Design, family_name, within_family
from slm_energy.analysis.result.comparison import Pair
from slm_energy.analysis.result.footprint import Amount
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.under_load import (
    ENOUGH,
    Knee,
    LoadCurve,
    LoadFamily,
    LoadOrder,
    LoadPair,
    LoadPoint,
    Promise,
    UnderLoad,
)
from slm_energy.analysis.stats import paired
from slm_energy.analysis.stats.comparison import Block
from slm_energy.analysis.stats.diagnostics import describe
from slm_energy.analysis.stats.effect_size import Floats, half_width
from slm_energy.analysis.stats.knee import knee
from slm_energy.analysis.text import under_load as text
from slm_energy.analysis.trials import blocks
from slm_energy.analysis.trials.frame import Study, level

_PER_REQUEST = Metric(name="energy/per_request_j")
_SATURATED = "load/saturated"
_DELIVERED = "load/delivered_per_s"
_MEAN = "latency/e2e_mean_s"
_TIMES = ("ttft", "tpot", "e2e")
_UNPROMISED = ("latency/ttft_p95_s", "latency/e2e_p95_s")
"""Latencies that are shown where none is limited."""

_Key = Literal["load.rate", "load.clients"]
_Curves = Mapping[str, Mapping[float, str]]
"""Name of a configuration to its cells by load."""


def under_load(study: Study, design: Design) -> UnderLoad | None:
    """Analyse a study's loads; None where all cells have the same.

    Args:
        study: its trials.
        design: its families, which are those of equal load.
    """
    if not design.load:
        return None
    confidence = f"{100 * (1 - design.options.alpha):g} %"
    families = [
        _family(study, design, name, key, metric, block, valued)
        for (name, key), curves in _groups(study, design).items()
        for metric, block in _energies(study)
        if (valued := _with_values(curves, block))
    ]
    return UnderLoad(
        keys=design.load,
        families=tuple(
            dataclasses.replace(family, sentences=text.sentences(family, confidence))
            for family in families
        ),
    )


def compared(study: Study, design: Design) -> Iterator[Block]:
    """The values whose comparisons share alpha with those of the metrics (`adjust=study`)."""
    if design.load and design.one_machine and _PER_REQUEST.name not in design.options.metrics:
        yield from (block for _, block in _energies(study))


def _energies(study: Study) -> Iterator[tuple[Metric, Block]]:
    """Joules per request of each kind that occurs; measured cells have no estimate."""
    for metric in _PER_REQUEST.kinds:
        block, _ = blocks.block(study, metric)
        if not np.isnan(block.values).all():
            yield metric, block


def _groups(study: Study, design: Design) -> dict[tuple[str, _Key], _Curves]:
    """Family and kind of load to its configurations; without cells of several machines."""
    groups: dict[tuple[str, _Key], dict[frozenset[tuple[str, str]], dict[float, str]]] = {}
    for cell in study.cells if design.one_machine else ():
        settings = study.settings[cell]
        key: _Key = "load.rate" if level(settings, "load.mode") == "open" else "load.clients"
        at = _number(level(settings, key))
        if at is None or key not in design.load:  # batches, a trace, or one load only
            continue
        family = family_name(settings, [each for each in design.split if each != key])
        rest = frozenset((name, str(v)) for name, v in settings.items() if name != key)
        groups.setdefault((family, key), {}).setdefault(rest, {})[at] = cell
    return {
        group: {
            within_family(study, next(iter(cells.values())), design.split) or group[0]: cells
            for cells in curves.values()
        }
        for group, curves in groups.items()
    }


def _with_values(curves: _Curves, block: Block) -> _Curves:
    """The cells that have a value; no curves unless one has two loads."""
    valued = set(itertools.compress(block.cells, np.asarray(~np.isnan(block.values).all(axis=0))))
    kept = {
        name: {at: cells[at] for at in sorted(cells) if cells[at] in valued}
        for name, cells in curves.items()
    }
    kept = {name: cells for name, cells in kept.items() if cells}
    return kept if any(len(cells) > 1 for cells in kept.values()) else {}


def _family(
    study: Study,
    design: Design,
    name: str,
    key: _Key,
    metric: Metric,
    block: Block,
    curves: _Curves,
) -> LoadFamily:
    cells = [cell for own in curves.values() for cell in own.values()]
    limits: dict[str, tuple[float, ...]] = {}
    for each in _TIMES:
        texts = (level(study.settings[cell], f"load.slo.{each}_s") for cell in cells)
        known = {number for text in texts if (number := _number(text)) is not None}
        if known:
            limits[f"latency/{each}_p95_s"] = tuple(sorted(known))
    latencies = tuple(limits) or _UNPROMISED
    made = []
    for curve, own in curves.items():
        points = tuple(
            _point(study, design, block, metric, latencies, cell, at) for at, cell in own.items()
        )
        best = min(
            (point for point in points if point.admissible),
            key=lambda point: point.energy.value,
            default=None,
        )
        made.append(
            LoadCurve(
                name=curve,
                points=points,
                knee=_knee(study, points),
                cheapest=None if best is None else best.level,
            )
        )
    return LoadFamily(
        name=name,
        key=key,
        metric=metric,
        latencies=latencies,
        limits=limits,
        curves=tuple(made),
        orders=tuple(_orders(made, block, design)),
    )


def _point(
    study: Study,
    design: Design,
    block: Block,
    metric: Metric,
    latencies: Sequence[str],
    cell: str,
    at: float,
) -> LoadPoint:
    alpha = design.options.alpha

    def column(name: str) -> Floats:
        values = study.block(name)[:, study.cells.index(cell)]
        return np.asarray(values[~np.isnan(values)])

    def mean(name: str) -> float | None:
        return float(values.mean()) if (values := column(name)).size else None

    def positive(name: str) -> Amount | None:
        values = column(name)
        own = Block(cells=(cell,), values=values[values > 0][:, None])
        return _described(own, cell, alpha)

    energy = _described(block, cell, alpha)
    assert energy is not None
    good = _good(column, alpha)
    return LoadPoint(
        cell=cell,
        level=at,
        trials=int((~np.isnan(block.values[:, block.cells.index(cell)])).sum()),
        saturated=int(column(_SATURATED).sum()),
        delivered_per_s=mean(_DELIVERED),
        energy=energy,
        per_good_request=positive(metric.name.replace("per_request", "per_good_request")),
        latencies={name: seen for name in latencies if (seen := positive(name)) is not None},
        good=good,
        promise=_promise(good),
        idle_share=mean(f"load/idle_{metric.name.partition('/')[0]}_share"),
    )


def _described(block: Block, cell: str, alpha: float) -> Amount | None:
    row = describe(block, cell, alpha)
    return None if row is None else Amount(value=row.mean, low=row.low, high=row.high)


def _good(column: Callable[[str], Floats], alpha: float) -> Amount | None:
    """Share of good requests; without a promise that of requests that were answered."""
    shares = column("load/good_share")
    if not shares.size:
        due = column("load/offered_per_s"), column("time/serve_s")
        lost = column("load/refused_count"), column("load/failed_count")
        if len({each.size for each in (*due, *lost)}) > 1 or not due[0].size or not due[0].all():
            return None
        shares = 1 - (lost[0] + lost[1]) / (due[0] * due[1])
    value, half = float(shares.mean()), half_width(shares, alpha)
    if half is None:
        return Amount(value=value, low=None, high=None)
    return Amount(value=value, low=max(0.0, value - half), high=min(1.0, value + half))


def _promise(good: Amount | None) -> Promise:
    if good is None:
        return "unknown"
    low, high = (good.value if end is None else end for end in (good.low, good.high))
    if low >= ENOUGH:
        return "kept"
    return "broken" if high < ENOUGH else "uncertain"


def _knee(study: Study, points: Sequence[LoadPoint]) -> Knee | None:
    steady = [point for point in points if not point.saturated]
    columns = [study.cells.index(point.cell) for point in steady]
    found = knee(study.block(_DELIVERED)[:, columns], study.block(_MEAN)[:, columns])
    if found is None:
        return None
    best, by_round = found
    levels = [point.level for point in steady]
    return Knee(
        level=levels[best],
        rounds=len(by_round),
        same=by_round.count(best),
        low=levels[min(by_round)],
        high=levels[max(by_round)],
        end="lowest" if best == 0 else "highest" if best == len(levels) - 1 else "",
    )


def _orders(curves: Sequence[LoadCurve], block: Block, design: Design) -> Iterator[LoadOrder]:
    """Compare each two configurations at each load that both have and neither saturates at."""
    rule = design.rule()
    at = [{point.level: point for point in curve.points} for curve in curves]
    found: dict[tuple[str, str], Pair] = {}
    for each in sorted({each for own in at for each in own}):
        cells = tuple(own[each].cell for own in at if each in own and not own[each].saturated)
        for pair in paired.compare(block.of(cells), rule).pairs if len(cells) > 1 else ():
            found[pair.a, pair.b] = pair
    for (a, one), (b, other) in itertools.combinations(zip(curves, at, strict=True), 2):
        shared = [each for each in one if each in other]
        pairs = tuple(_pair(found, one[each], other[each]) for each in shared)
        if pairs:
            yield LoadOrder(a=a.name, b=b.name, pairs=pairs)


def _pair(found: Mapping[tuple[str, str], Pair], a: LoadPoint, b: LoadPoint) -> LoadPair:
    if a.saturated or b.saturated:
        return LoadPair(level=a.level, ratio=None, low=None, high=None, verdict=None)
    pair = found.get((a.cell, b.cell)) or found[b.cell, a.cell].turned()
    return LoadPair(
        level=a.level,
        ratio=pair.ratio,
        low=pair.joint_low,
        high=pair.joint_high,
        verdict=pair.verdict,
    )


def _number(value: str) -> float | None:
    """A setting as the store has it: `None` is text too."""
    return None if value in ("None", "none") else float(value)
