"""What the figures of a report rest on: its trials, one by one, and versions."""

from __future__ import annotations

import platform
from importlib.metadata import version

import numpy as np
import pandas as pd

from slm_energy._version import __version__
from slm_energy.analysis.result.design import Provenance, TrialRow
from slm_energy.analysis.trials.frame import Study, started

_LIBRARIES = ("numpy", "scipy", "pandas", "statsmodels", "scikit-posthocs")


def provenance(study: Study, raw: pd.DataFrame) -> Provenance:
    """Which trials and versions the figures rest on.

    Args:
        study: the trials that count.
        raw: what `trials.frame.tidy` chose them from.
    """
    own = raw[raw["machine"].astype(str).isin(study.machines)]
    begun = started(own).dropna()
    stamps = (begun.min().isoformat(), begun.max().isoformat()) if len(begun) else ("", "")
    libraries = {
        str(name): tuple(sorted({str(value) for value in own[name].dropna()}))
        for name in own.columns
        if str(name).startswith("version.")
    }
    return Provenance(
        rows=len(own),
        repeated=study.repeated,
        sweeps=tuple(dict.fromkeys(str(sweep) for sweep in own["sweep"])),
        first_started=stamps[0],
        last_started=stamps[1],
        versions={
            "slm_energy": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _LIBRARIES},
        },
        libraries=libraries,
    )


def trial_rows(study: Study) -> tuple[TrialRow, ...]:
    """One row per trial that counts for its cell and round, in planned order."""
    rows = study.trials
    names = [str(name) for name in rows.columns if "/" in str(name)]
    values = rows[names].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    finite = np.isfinite(values)
    heads = zip(
        rows["run_id"], rows["cell"], rows["round"], rows["order"], rows["attempt"],
        rows["outcome"], rows["reason"], strict=True,
    )  # fmt: skip
    return tuple(
        TrialRow(
            run_id=str(run),
            cell=str(cell),
            round=int(number),
            order=int(order),
            attempt=int(attempt),
            outcome=outcome,
            reason=str(reason),
            values={names[j]: float(values[i, j]) for j in np.flatnonzero(finite[i])},
        )
        for i, (run, cell, number, order, attempt, outcome, reason) in enumerate(heads)
    )
