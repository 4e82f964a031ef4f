"""Searches of MLflow's runs.

MLflow returns only whole runs, with every tag, param and metric: about 2 ms each. Queries therefore
ask for as few runs as possible; a count is checked by asking for its last run.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from slm_energy.record import OutcomeName
from slm_energy.store import mlflow_schema
from slm_energy.store.access import is_server
from slm_energy.store.history_cache import HistoryEntry

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1000
_SERVED_PAGE = 100
"""For a server: even when busy it must answer within the limits of `access.PATIENCE`."""
_SMALL_PAGE = 50


def search(client: MlflowClient, experiments: Sequence[str], query: str) -> list[Run]:
    """Runs of studies, by their ids, that match; oldest first."""
    with _uncollected():
        return [run for page in pages(client, experiments, query) for run in page]


def pages(
    client: MlflowClient,
    experiments: Sequence[str],
    query: str,
    *,
    newest_first: bool = False,
    deleted: bool = False,
    first: int = _PAGE,
) -> Iterator[list[Run]]:
    """Runs that match, page by page, by the time at which they started.

    Args:
        client: of the store.
        experiments: ids of the studies.
        query: in MLflow's search language.
        newest_first: newest first, else oldest first.
        deleted: only runs that a user deleted, else only those that exist.
        first: largest size of the first page.
    """
    from mlflow.entities import ViewType

    view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    order = [f"attributes.start_time {'DESC' if newest_first else 'ASC'}"]
    page_size = _SERVED_PAGE if is_server(client.tracking_uri) else _PAGE
    size, token = min(first, page_size), None
    while True:
        with _uncollected():
            page = client.search_runs(list(experiments), query, view, size, order, token)
        yield list(page)
        size, token = page_size, page.token
        if not token:
            return


class MachineTrials:
    """The trials of a study on a machine, for `history_cache.recall`."""

    def __init__(self, client: MlflowClient, experiment: str, machine: str) -> None:
        self._client = client
        self._experiment = experiment
        self._query = f"tags.`slm.machine` = '{machine}' and tags.`slm.outcome`"

    def pages(self, *, small_first: bool) -> Iterator[list[HistoryEntry]]:
        """All of them, newest first."""
        first = _SMALL_PAGE if small_first else _PAGE
        query = f"{self._query} != ''"
        for page in pages(self._client, [self._experiment], query, newest_first=True, first=first):
            yield [entry(run) for run in page]

    def deleted(self) -> set[str]:
        """Run ids of the trials that a user deleted."""
        query = f"{self._query} != ''"
        deleted = pages(self._client, [self._experiment], query, deleted=True)
        return {run.info.run_id for page in deleted for run in page}

    def number(self, outcome: OutcomeName, count: int) -> bool:
        """Whether exactly `count` ended like this: the last one exists, and none follows it."""
        from mlflow.utils.search_utils import SearchUtils

        query = f"{self._query} = '{outcome}'"
        token = None
        if count > 1:
            token = SearchUtils.create_page_token(count - 1).decode()  # type: ignore[no-untyped-call]
        last = self._client.search_runs([self._experiment], query, max_results=1, page_token=token)
        return len(last) == min(count, 1) and not last.token


def entry(run: Run) -> HistoryEntry:
    """A trial's run as an entry of a ledger."""
    past = mlflow_schema.past(run.data.tags, run.data.params, run.data.metrics)
    return HistoryEntry(key=run.info.run_id, started_ms=run.info.start_time, past=past)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Pause the garbage collector, which would scan MLflow's many objects repeatedly."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
