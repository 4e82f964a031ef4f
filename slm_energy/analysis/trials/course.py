"""How the rounds of a study really went: facts that its sentences rest on."""

from __future__ import annotations

import pandas as pd


def late_trials(rows: pd.DataFrame, started: pd.Series[pd.Timestamp]) -> int | None:
    """Valid trials that began when a later round had begun, such as those that filled a gap.

    Args:
        rows: one row per cell and round.
        started: when each of them began.

    Returns:
        None where it is not known when trials began.
    """
    kept = (rows["outcome"] == "valid") & (rows["round"] > 0)
    if not kept.any() or started[kept].isna().any():
        return None
    numbers, begun = rows.loc[kept, "round"], started[kept]
    first = begun.groupby(numbers).min().sort_index()
    # When any of the rounds after this one began.
    after = first[::-1].cummin()[::-1].shift(-1)
    return int((begun > numbers.map(after)).sum())


def varied_order(rows: pd.DataFrame) -> bool | None:
    """Whether the planned order of cells differs between rounds; None with one round or one cell.

    Args:
        rows: one row per cell and round, in planned order.
    """
    rows = rows[rows["round"] > 0]
    orders = [list(cells) for _, cells in rows.groupby("round")["cell"]]
    shared = set(orders[0]).intersection(*orders) if orders else set()
    if len(orders) < 2 or len(shared) < 2:
        return None
    return len({tuple(cell for cell in order if cell in shared) for order in orders}) > 1
