"""The cells of a study as configurations that several models have, for `stats.population`."""

from __future__ import annotations

import dataclasses

import numpy as np

from slm_energy.analysis.result.population import Population
from slm_energy.analysis.stats.comparison import Block, Rule
from slm_energy.analysis.stats.population import ModelBlock, population
from slm_energy.analysis.trials.frame import Study, level

_MODEL = "model.name"


def over_models(study: Study, block: Block, rule: Rule, *, rounds: bool) -> Population | None:
    """Compare the configurations of a study over its models; None with fewer than two.

    Args:
        study: its cells.
        block: values of one metric; cells without any are not used.
        rule: how to decide.
        rounds: the rows are rounds; else repetitions without an order.
    """
    cells: dict[str, dict[str, str]] = {}
    block = block.of(tuple(cell for cell in study.cells if cell in block.cells))
    for cell, column in zip(block.cells, block.values.T, strict=True):
        if not np.isnan(column).all():
            model = level(study.settings[cell], _MODEL)
            configuration = study.labels[cell].removeprefix(f"{model} / ")
            cells.setdefault(model, {})[configuration] = cell
    if len({name for own in cells.values() for name in own}) < 2:
        return None
    blocks = []
    for model, own in cells.items():
        values = block.of(tuple(own.values()))
        named = dataclasses.replace(values, cells=tuple(own))
        blocks.append(ModelBlock(model=model, block=named, rounds=rounds))
    return population(blocks, rule)
