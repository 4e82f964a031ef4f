"""The view of a study's trials with which the MLflow UI opens: columns, order and charts.

MLflow keeps a shared view in a tag of the experiment and opens it by the key in the address
(`viewStateShareKey`). The form of the tag is not documented; it was read from the front end of
MLflow 3.17, which ignores a tag that it cannot read. `tests/test_browser.py` opens it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from slm_energy.metric_catalog.definition import SUMS, bounds

KEY = "slm_energy"
TAG = f"mlflow.sharedViewState.{KEY}"

_ENERGY = tuple(SUMS)
_WIDTHS_PX = {"slm.label": 170, "slm.round": 90, "slm.outcome": 100}
"""Of the columns of tags: the label comes before the metrics, the others after them."""
_METRIC_PX = 190
_METRICS_MOST = 5  # MLflow accepts 5,000 characters in a tag


def address(server: str, experiment: str) -> str:
    """Where the UI of a server shows the view of an experiment."""
    query = f"workflowType=machine_learning&viewStateShareKey={KEY}"
    return f"{server}/#/experiments/{experiment}/runs?{query}"


def shared_view(metrics: Sequence[str], unix_ms: int) -> str:
    """The value of the tag.

    Args:
        metrics: stored names, the deciding one first; energies also get the columns of their
            interval.
        unix_ms: when it is made.
    """
    metrics = metrics[:_METRICS_MOST]
    label, *others = (f"tags.`{name}`" for name in _WIDTHS_PX)
    columns = [f"metrics.`{name}`" for name in _with_bounds(metrics)]
    widths = dict.fromkeys([label, *columns, *others], _METRIC_PX)
    widths |= {f"tags.`{name}`": width for name, width in _WIDTHS_PX.items()}
    state = {
        "searchFilter": "tags.`slm.kind` = 'trial'",
        "orderByKey": f"metrics.`{metrics[0]}`",
        "orderByAsc": True,
        "selectedColumns": list(widths),
        "columnOrder": list(widths),
        "columnWidths": widths,
        "runsHiddenMode": "SHOW_ALL",
        "isAccordionReordered": True,
        **_charts(metrics),
    }
    envelope = {"name": "Energy per cell", "createdAt": unix_ms, "updatedAt": unix_ms}
    return json.dumps(envelope | {"state": json.dumps(state, separators=(",", ":"))})


def _with_bounds(metrics: Sequence[str]) -> list[str]:
    """The metrics, each energy followed by the ends of its interval."""
    names = []
    for name in metrics:
        names.append(name)
        if name.startswith(_ENERGY):
            names += bounds(name)
    return names


def _charts(metrics: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """One bar chart per metric, in a section for energy and one for the others."""
    energy = [name for name in metrics if name.startswith(_ENERGY)]
    sections = {"Energy": energy, "Other metrics": [name for name in metrics if name not in energy]}
    return {
        "compareRunSections": [
            {"uuid": title, "name": title, "display": True, "isReordered": True, "columns": 2}
            for title in sections
        ],
        "compareRunCharts": [
            {
                "type": "BAR",
                "uuid": name,
                "metricSectionId": title,
                "metricKey": name,
                "runsCountToCompare": 100,
            }
            for title, names in sections.items()
            for name in names
        ],
    }
