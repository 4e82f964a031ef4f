"""The table that the analysis reads: one row per trial, from its tags, params and metrics."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from slm_energy.errors import TrackingError
from slm_energy.record import EnergyFigure
from slm_energy.scope import Scope
from slm_energy.serialization import from_plain, to_plain
from slm_energy.store import mlflow_schema
from slm_energy.store.trials import StoredTrial, Wanted

if TYPE_CHECKING:
    import pandas as pd

_TAGS = (
    *("study", "sweep", "cell", "label", "machine", "outcome", "reason"),
    *("scored", "tests", "verdicts", "node", "node_kind", "ended_by"),
)
_NUMBERS = ("round", "order", "attempt")
_OF_SCOPE = (mlflow_schema.SCOPE, "slm.scope", "slm.job", "slm.sweep")
WANTED = Wanted([*(f"slm.{name}" for name in (*_TAGS, *_NUMBERS)), *_OF_SCOPE])

_Scopes = dict[tuple[str, ...], Scope | None]


def of_trials(
    pages: Iterable[Sequence[StoredTrial]], attached: Callable[[str, str], str]
) -> pd.DataFrame:
    """One row per trial: identity, scope, dotted settings, metrics.

    `scored` is the version of the scoring, `tests` a digest of the tests and `verdicts` a hash of
    which tasks are solved, all empty in a trial without scores. `scope` is the JSON of a
    `scope.Scope`, empty where nothing was summed, and `measured` the same in words.

    Args:
        pages: the trials, in parts: the rows of a large study would take 0.3 GB, a frame of floats
            far less.
        attached: run id and name of an artifact to its text.
    """
    import pandas as pd

    scopes: _Scopes = {}
    frames = [pd.DataFrame([_row(trial, scopes, attached) for trial in page]) for page in pages]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _row(
    trial: StoredTrial, scopes: _Scopes, attached: Callable[[str, str], str]
) -> dict[str, Any]:
    """A trial's row in the frame; `scopes` has those that earlier trials had."""
    tags, scope = trial.tags, _scope(trial, scopes, attached)
    row: dict[str, Any] = {"run_id": trial.run_id, "started": trial.started_ms}
    row |= {name: tags.get(f"slm.{name}", "") for name in _TAGS}
    row |= {name: int(tags[f"slm.{name}"]) for name in _NUMBERS}
    row |= {
        "scope": "" if scope is None else json.dumps(to_plain(scope)),
        "measured": "" if scope is None else scope.words,
    }
    return row | trial.params | trial.metrics


def _scope(trial: StoredTrial, known: _Scopes, attached: Callable[[str, str], str]) -> Scope | None:
    """What the sum of a trial covers.

    Older versions stored the domains as a tag, and the devices only in the trial's files: these are
    read once per invocation and domains, because meters are opened once per invocation.
    """
    tags = trial.tags
    older = mlflow_schema.SCOPE not in tags and "slm.scope" in tags
    names = ("slm.sweep", "slm.scope") if older else (mlflow_schema.SCOPE,)
    key = tuple(tags.get(name, "") for name in names)
    if key not in known:
        known[key] = mlflow_schema.stored_scope(tags)
        if older:
            with contextlib.suppress(TrackingError, ValueError):  # files may have been lost
                figures = json.loads(attached(trial.run_id, "energy.json"))
                energy = [from_plain(EnergyFigure, figure) for figure in figures]
                known[key] = mlflow_schema.scope_of(energy, interchangeable="slm.job" in tags)
    return known[key]
