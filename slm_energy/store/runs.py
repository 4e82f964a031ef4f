"""Searches of MLflow's runs.

MLflow returns only whole runs, with every tag, param and metric, so queries ask for as few as
possible; `trials.py` reads those of a whole study.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 100
"""Even a busy server must answer within the limits of `access.PATIENCE`; 1,000 take 0.3 GB here."""


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
) -> Iterator[list[Run]]:
    """Runs that match, page by page, by the time at which they started.

    Args:
        client: of the store.
        experiments: ids of the studies.
        query: in MLflow's search language.
        newest_first: newest first, else oldest first.
        deleted: only runs that a user deleted, else only those that exist.
    """
    from mlflow.entities import ViewType

    view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    order = [f"attributes.start_time {'DESC' if newest_first else 'ASC'}"]
    token = None
    while True:
        with _uncollected():
            page = client.search_runs(list(experiments), query, view, _PAGE, order, token)
        yield list(page)
        token = page.token
        if not token:
            return


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
