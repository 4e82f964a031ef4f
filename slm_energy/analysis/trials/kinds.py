"""The trials on nodes of one kind: a cluster's partition may mix processors and GPUs."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from slm_energy.analysis.result.design import LeftOut


def node_kind(rows: pd.DataFrame) -> str:
    """The kind of node of most valid trials; empty where none was a cluster's job."""
    if "node_kind" not in rows:
        return ""
    return str(next(iter(rows.loc[rows["outcome"] == "valid", "node_kind"].mode()), ""))


def one_kind(rows: pd.DataFrame) -> tuple[pd.DataFrame, tuple[LeftOut, ...]]:
    """Keep the kind of node of most valid trials; of equally many, that of the earliest round.

    Trials without a kind are kept: those of older versions, and those that were no cluster's jobs.

    Args:
        rows: as `tracking.Store.frame` returns them, of one machine.

    Returns:
        All trials; those on other nodes are invalid, with the reason. And what is left out so.
    """
    if "node_kind" not in rows:
        return rows, ()
    kinds = rows["node_kind"].fillna("")
    valid = (rows["outcome"] == "valid") & (kinds != "")
    counts = Counter(kinds[valid])
    if len(counts) < 2:
        return rows, ()
    first = rows["round"].astype(int).groupby(kinds).min()
    chosen = max(counts, key=lambda kind: (counts[kind], -first[kind]))
    left_out = []
    for kind in [kind for kind in counts if kind != chosen]:
        which = valid & (kinds == kind)
        nodes = ", ".join(sorted(set(rows.loc[which, "node"])))
        reason = f"ran on {nodes} ({kind}), not on nodes as most of the study ({chosen})"
        rows = rows.assign(
            outcome=rows["outcome"].mask(which, "invalid"),
            reason=rows["reason"].mask(which, reason),
        )
        trials = f"{counts[kind]} trial{'s' * (counts[kind] != 1)} on another kind of node"
        left_out.append(LeftOut(scope="trial", name=trials, reason=reason))
    return rows, tuple(left_out)
