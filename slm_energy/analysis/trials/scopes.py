"""The trials that measured the study's own scope: totals of different scope are never pooled."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd

from slm_energy.analysis.result.design import LeftOut
from slm_energy.analysis.result.metric import MEASURED, Metric
from slm_energy.metric_catalog.definition import DEVICES, in_group
from slm_energy.scope import Scope, difference, has_processor, lacking
from slm_energy.serialization import from_plain


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OneScope:
    """Trials whose measured totals may be compared.

    Attributes:
        rows: all trials; those of another scope are invalid, with the reason.
        scope: what the others measured; None where nothing was measured, or it is not recorded.
        left_out: the trials of other scopes.
    """

    rows: pd.DataFrame
    scope: Scope | None
    left_out: tuple[LeftOut, ...]


def one_scope(rows: pd.DataFrame) -> OneScope:
    """Keep the scope of most valid trials; of equally many, that of the earliest round.

    Trials without any measured sum are kept: their latencies and estimates have no scope.

    Args:
        rows: as `tracking.Store.frame` returns them, of one machine.
    """
    texts = rows["scope"].fillna("") if "scope" in rows else pd.Series("", rows.index)
    known = {text: from_plain(Scope, json.loads(text)) for text in texts.unique() if text}
    scopes = {text: scope for text, scope in known.items() if scope.kind == "measured"}
    if not scopes:
        return OneScope(rows=rows, scope=None, left_out=())
    rows = _renamed(
        rows, texts.isin([t for t, s in scopes.items() if not has_processor(s.domains)])
    )
    rows = _without_incomplete(rows, texts, scopes)
    digests = texts.map({text: scope.digest for text, scope in scopes.items()})
    valid = (rows["outcome"] == "valid") & digests.notna()
    counts = Counter(digests[valid])
    if not counts:
        return OneScope(rows=rows, scope=None, left_out=())
    first = rows["round"].astype(int).groupby(digests).min()
    chosen = max(counts, key=lambda digest: (counts[digest], -first[digest]))
    by_digest = {scope.digest: scope for scope in scopes.values()}
    own, left_out = by_digest[chosen], []
    for digest in [digest for digest in counts if digest != chosen]:
        other = by_digest[digest]
        reason = (
            f"measured over {other.words}, not over the study's {own.words}"
            f" ({difference(own, other)})"
        )
        rows = _invalid(rows, valid & (digests == digest), reason)
        trials = f"{counts[digest]} trial{'s' * (counts[digest] != 1)} of another scope"
        left_out.append(LeftOut(scope="trial", name=trials, reason=reason))
    return OneScope(rows=rows, scope=own, left_out=tuple(left_out))


def _renamed(rows: pd.DataFrame, no_total: pd.Series[bool]) -> pd.DataFrame:
    """Sums without processors, which older versions stored as totals, under their own names."""
    for old in [str(name) for name in rows if str(name).startswith(MEASURED)]:
        if not Metric(name=old).is_sum or not (no_total & rows[old].notna()).any():
            continue
        new = in_group(old, DEVICES)
        before = rows[new] if new in rows else pd.Series(np.nan, rows.index)
        rows = rows.assign(
            **{new: before.where(~no_total, rows[old]), old: rows[old].where(~no_total)}
        )
    return rows


def _without_incomplete(
    rows: pd.DataFrame, texts: pd.Series[str], scopes: Mapping[str, Scope]
) -> pd.DataFrame:
    """Older versions called a trial valid whose sum lacks the device that it computed on."""
    pairs = zip(texts, rows.get("provider.name", pd.Series("", rows.index)), strict=True)
    lacks = pd.Series(
        [
            lacking(scopes[text].domains, str(provider)) if text in scopes else None
            for text, provider in pairs
        ],
        index=rows.index,
        dtype=object,
    )
    for device in lacks.dropna().unique():
        which = (rows["outcome"] == "valid") & (lacks == device)
        rows = _invalid(rows, which, f"its sum lacks the {device} that it computed on")
    return rows


def _invalid(rows: pd.DataFrame, which: pd.Series[bool], reason: str) -> pd.DataFrame:
    return rows.assign(
        outcome=rows["outcome"].mask(which, "invalid"), reason=rows["reason"].mask(which, reason)
    )
