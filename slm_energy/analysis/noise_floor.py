"""The noise floor of a machine: what one cell under several names (an A/A study) differs by.

A cell's id holds its names, so `workload.name=A,B` over the same prompts runs one cell as two. What
these two differ by is neither engine nor model: it is the noise of the machine and of the method.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

from slm_energy.analysis.result.diagnostics import MetricNoise, NoiseFloor
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.stats.comparison import Block
from slm_energy.analysis.stats.diagnostics import residual_sd
from slm_energy.analysis.stats.effect_size import Floats, half_width
from slm_energy.analysis.trials.frame import Study, started
from slm_energy.analysis.trials.kinds import node_kind
from slm_energy.cell import PLACES
from slm_energy.config.groups import Scalar
from slm_energy.errors import AnalysisError
from slm_energy.serialization import from_plain, to_plain

_NAMES = ("model.name", "workload.name", *PLACES)
"""What may differ between cells that are the same: names, and where things are."""

_DIGESTS = ("model.digest", "workload.digest")


def twins(settings: Mapping[str, Mapping[str, Scalar]]) -> list[tuple[str, ...]]:
    """Cells that are the same under several names, group by group.

    Args:
        settings: cell id to its settings, versions and digests; without digests it is not known
            whether two names stand for the same thing.
    """
    groups: dict[frozenset[tuple[str, str]], list[str]] = {}
    for cell, levels in settings.items():
        if all(key in levels for key in _DIGESTS):
            same = frozenset((key, str(v)) for key, v in levels.items() if key not in _NAMES)
            groups.setdefault(same, []).append(cell)
    return [tuple(cells) for cells in groups.values() if len(cells) > 1]


def floor(study: Study, values: Sequence[tuple[Metric, Block]], alpha: float) -> NoiseFloor | None:
    """The noise floor that a study's twins show; of several groups the noisiest. None without any.

    Args:
        study: its trials.
        values: metrics and their values over all cells.
        alpha: intervals have confidence 1 - alpha.
    """
    floors = []
    for cells in twins(study.settings):
        metrics = [
            _metric(metric, np.log(block.of(cells).values), alpha) for metric, block in values
        ]
        known = tuple(noise for noise in metrics if noise is not None)
        if not known:
            continue
        own = study.valid[study.valid["cell"].isin(cells)]
        begun = started(own).dropna()
        floors.append(
            NoiseFloor(
                study=study.name,
                machine=study.machine,
                cell=study.core(cells[0]),
                day=begun.max().date().isoformat() if len(begun) else "",
                rounds=int(own["round"].nunique()),
                metrics=known,
                node_kind=node_kind(own),
            )
        )
    return max(floors, key=lambda candidate: candidate.metrics[0].sd_pct, default=None)


def _metric(metric: Metric, logs: Floats, alpha: float) -> MetricNoise | None:
    """One metric of one group, rounds x names; None where there is no spread to see."""
    intervals = []
    for a, b in itertools.combinations(range(logs.shape[1]), 2):
        ratios = logs[:, a] - logs[:, b]
        ratios = ratios[~np.isnan(ratios)]
        half = half_width(ratios, alpha)
        if half is not None:
            intervals.append((float(ratios.mean()), half))
    sd = residual_sd(logs[~np.isnan(logs).all(axis=1)])
    if not intervals or sd is None:
        return None
    mean, half = max(intervals, key=lambda interval: abs(interval[0]) + interval[1])
    return MetricNoise(
        name=metric.name,
        ratio=math.exp(mean),
        low=math.exp(mean - half),
        high=math.exp(mean + half),
        sd_pct=100 * math.expm1(sd),
        trials=int((~np.isnan(logs)).sum()),
    )


def to_text(noise_floor: NoiseFloor) -> str:
    """As it is stored."""
    return json.dumps(to_plain(noise_floor), separators=(",", ":"))


def from_text(text: str) -> NoiseFloor:
    """Read what is stored.

    Raises:
        AnalysisError: another version wrote it.
    """
    try:
        return from_plain(NoiseFloor, json.loads(text))
    except ValueError as error:
        raise AnalysisError(
            f"the stored noise floor cannot be read ({error}): measure it again with"
            " slm-energy --config-name aa_noise_floor"
        ) from error
