"""Scores by the same tests: those of different tests are never in one figure."""

from __future__ import annotations

import numpy as np
import pandas as pd

from slm_energy.analysis.result.design import LeftOut
from slm_energy.derive.solved import is_of_scores


def one_tests(rows: pd.DataFrame, study: str) -> tuple[pd.DataFrame, tuple[LeftOut, ...]]:
    """Keep the scores that the tests of each workload's newest scored trial gave.

    Scores of older versions, which recorded no tests, are by the same tests only among themselves.

    Args:
        rows: as `tracking.Store.frame` returns them, of one machine, in the order of their start.
        study: its name.

    Returns:
        All trials; those of other tests are without scores. And what is left out so.
    """
    if "scored" not in rows:
        return rows, ()
    scored = (rows["outcome"] == "valid") & (rows["scored"].fillna("") != "")
    blank = pd.Series("", rows.index)
    tests = rows.get("tests", blank).fillna("") + " " + rows["scored"].fillna("")
    workloads = rows.get("workload.digest", blank).fillna("")
    other = scored & (tests != workloads.map(tests[scored].groupby(workloads).last()))
    if not other.any():
        return rows, ()
    own = [str(name) for name in rows if is_of_scores(str(name))]
    rows = rows.assign(
        **{name: rows[name].mask(other, np.nan) for name in own},
        **{name: rows[name].mask(other, "") for name in ("scored", "verdicts")},
    )
    reason = (
        "by other tests, or another version of the scoring, than that of the newest trial:"
        f" slm-energy score study={study} scores them again"
    )
    count = int(other.sum())
    name = f"scores of {count} trial{'s' * (count != 1)}"
    return rows, (LeftOut(scope="trial", name=name, reason=reason),)
