"""The view of a study's trials with which the MLflow UI opens: columns, order and charts.

MLflow keeps a shared view in a tag of the experiment and opens it by the key in the address
(`viewStateShareKey`). The form of the tag is not documented; it was read from the front end of
MLflow 3.17, which ignores a tag that it cannot read. `tests/test_browser.py` opens it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from slm_energy.metric_catalog.catalog import GROUPS
from slm_energy.metric_catalog.definition import SUMS, bounds

KEY = "slm_energy"
TAG = f"mlflow.sharedViewState.{KEY}"

_ENERGY = tuple(SUMS)
_WIDTHS_PX = {"slm.round": 90, "slm.outcome": 100}
"""Of the columns of tags, after the metrics; runs are named after their cells."""
_METRIC_PX = 190
_LAST = ("contamination", "sampler", "system")
_GROUPS = (*(name for name in GROUPS if name not in _LAST), *_LAST[:2])
"""The sections of all other charts, folded: joules first, what metering itself did last."""
_METRICS_MOST = 5  # MLflow accepts 5,000 characters in a tag


def address(server: str, experiment: str) -> str:
    """Where the UI of a server shows the view of an experiment."""
    query = f"workflowType=machine_learning&viewStateShareKey={KEY}"
    return f"{server}/#/experiments/{experiment}/runs?{query}"


def shared_view(metrics: Sequence[str], groups: Collection[str], unix_ms: int) -> str:
    """The value of the tag.

    Args:
        metrics: stored names, the deciding one first; energies also get the columns of their
            interval.
        groups: those of all metrics that trials have; their charts are in sections below.
        unix_ms: when it is made.
    """
    metrics = metrics[:_METRICS_MOST]
    widths = {f"metrics.`{name}`": _METRIC_PX for name in _with_bounds(metrics)}
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
        **_charts(metrics, groups),
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


def _charts(metrics: Sequence[str], groups: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """One bar chart per metric, in a section for energy and one for the others.

    MLflow puts other metrics into the section of their group; groups without one come last.
    """
    energy = [name for name in metrics if name.startswith(_ENERGY)]
    sections = {"Energy": energy, "Other metrics": [name for name in metrics if name not in energy]}
    return {
        "compareRunSections": [
            {"uuid": title, "name": title, "display": True, "isReordered": True, "columns": 2}
            for title in sections
        ]
        + [
            {"uuid": name, "name": name, "display": False, "isReordered": True, "columns": 2}
            for name in _GROUPS
            if name in groups
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
