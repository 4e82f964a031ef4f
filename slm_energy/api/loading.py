"""Stored trials, generations and readings as DataFrames, for statistics of one's own."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slm_energy.api.stores import Tracking, tracking_config, trials_of
from slm_energy.errors import ConfigError, TrackingError
from slm_energy.store import artifacts
from slm_energy.store.tracking import open_existing

if TYPE_CHECKING:
    import pandas as pd

    from slm_energy.store.tracking import Store

_IDENTITY = ["run_id", "cell", "label", "round"]


def load_trials(study: str, tracking: Tracking = None) -> pd.DataFrame:
    """Load the trials of a study, one row each: the unit of analysis.

    Args:
        study: its name.
        tracking: a folder with a store, an MLflow tracking URI, or None for `mlruns`.

    Returns:
        One row per attempt, oldest first, with the columns

        - `run_id` (of MLflow), `study`, `sweep`, `machine`, `started` (UTC);
        - `cell` (its id), `label` (its name), `round` (from 1; 0 notes an unsupported cell),
          `order` (position over all rounds), `attempt`;
        - `outcome` (`valid`, `invalid`, `failed` or `unsupported`) and `reason` (empty if valid);
        - settings under dotted keys such as `engine.name` and library versions such as
          `version.torch`: text, as MLflow stores it; missing where a cell has no such setting;
        - metrics such as `latency/ttft_p50_s`: floats in the unit that ends the name (J, s, W, MB,
          %); NaN where a trial has none. `energy/...` is measured, `energy_devices/...` measured
          without the processors and `energy_estimated/...` estimated: do not compare one with the
          other;
        - `measured`: what the sums of joules cover, in words, and `scope`: the same as JSON, device
          by device; do not average sums of different scope.

        Rows whose `workload.name` is `sentinel` repeat one cell to show drift (`study.sentinel`).

    Raises:
        TrackingError: there is no such store or study, or it has no trial yet.
    """
    import pandas as pd

    frame = trials_of(open_existing(tracking_config(tracking)), study)
    return frame.assign(started=pd.to_datetime(frame["started"], unit="ms", utc=True))


def load_generations(
    study: str, tracking: Tracking = None, *, trials: Iterable[str] | None = None
) -> pd.DataFrame:
    """Load what the models generated, one row per request.

    Args:
        study: its name.
        tracking: a folder with a store, an MLflow tracking URI, or None for `mlruns`.
        trials: run ids (`run_id` of `load_trials`) to read; None reads the whole study.

    Returns:
        One row per request of the trials that served any (valid and invalid ones), in the order in
        which they were served, with the columns

        - `run_id`, `cell`, `label`, `round`: the trial, as in `load_trials`;
        - `pass_index`: the workload is repeated inside a trial; 0 is the first pass;
        - `batch_index`: requests of a pass with the same index were served together;
        - `task_id`, `prompt`; `completion`: text, kept for the first pass only;
        - `input_tokens`, `output_tokens`; `stop`: `length`, `eos` or `code`;
        - `ttft_s`, `e2e_s`: seconds from the request to its first and its last token;
        - `output_ids`, `token_s`: arrays of (output_tokens,), the generated token ids and the
          seconds from the request to each of them.

    Raises:
        TrackingError: there is no such store or study, or no trial of it served anything.
        ConfigError: `trials` names a run that the study does not have.
    """
    return _of_each_trial(study, tracking, trials, _generations)


def load_readings(
    study: str, tracking: Tracking = None, *, trials: Iterable[str] | None = None
) -> pd.DataFrame:
    """Load the raw readings of all sensors, one row per source and reading.

    Args:
        study: its name.
        tracking: a folder with a store, an MLflow tracking URI, or None for `mlruns`.
        trials: run ids (`run_id` of `load_trials`) to read; None reads the whole study.

    Returns:
        One row per reading, source by source, with the columns

        - `run_id`, `cell`, `label`, `round`: the trial, as in `load_trials`;
        - `source` (such as `rapl/intel-rapl:0`), `kind` (`counter`: energy so far; `power`;
          `estimate`: a model's energy so far; `gauge`: not energy), `domain`, `unit`;
        - `window`: the span (`load`, `baseline`, `warmup`, `serve`, ...) in which it was read;
          missing between the spans;
        - `time_s`: seconds from the start of the first window to the reading;
        - `value`: in `unit`, not corrected for wraps; NaN where the reading failed, see `error`;
        - `raw_int`: the exact integer where the sensor gives one (nullable Int64);
        - `before_ns`, `after_ns`: monotonic time before and after the reading;
        - `error`: why a reading failed; missing where it did not.

    Raises:
        TrackingError: there is no such store or study, or no reading is stored.
        ConfigError: `trials` names a run that the study does not have.
    """
    table = _of_each_trial(study, tracking, trials, _readings)
    if table.empty:
        raise TrackingError(
            f"study={study!r} has no readings: its trials ran with measurement=off; run it with"
            " measurement=auto"
        )
    return table


def _of_each_trial(
    study: str,
    tracking: Tracking,
    trials: Iterable[str] | None,
    read: Callable[[Store, str], pd.DataFrame],
) -> pd.DataFrame:
    """What `read` says of each trial that has a capture, one below the other."""
    import pandas as pd

    store = open_existing(tracking_config(tracking))
    rows = trials_of(store, study)
    if trials is not None:
        chosen = [trials] if isinstance(trials, str) else list(trials)
        if unknown := set(chosen) - set(rows["run_id"]):
            raise ConfigError(
                f"trials: {min(unknown)!r} is not a run id of study={study!r}; take them from"
                " load_trials(...).run_id"
            )
        rows = rows[rows["run_id"].isin(chosen)]
    rows = rows[rows["outcome"].isin(["valid", "invalid"])]
    if rows.empty:
        raise TrackingError(
            f"study={study!r}: none of these trials served a request; load_trials({study!r}).reason"
            " says why"
        )
    tables = []
    for identity in rows[_IDENTITY].to_dict("records"):
        table = read(store, identity["run_id"])
        for position, name in enumerate(_IDENTITY):
            table.insert(position, name, identity[name])
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _generations(store: Store, run_id: str) -> pd.DataFrame:
    """The requests of one trial; see `load_generations`."""
    import pandas as pd

    requests = _parquet(store, run_id, artifacts.GENERATIONS)
    stored = json.loads(store.attached(run_id, artifacts.TABLE))
    first_pass = pd.DataFrame(stored["data"], columns=stored["columns"])
    prompts = dict(zip(first_pass["task_id"], first_pass["prompt"], strict=True))
    pairs = zip(requests["token_ns"], requests["start_ns"], strict=True)
    token_s = [(np.asarray(token_ns) - start_ns) / 1e9 for token_ns, start_ns in pairs]
    return pd.DataFrame(
        {
            "pass_index": requests["pass_index"],
            "batch_index": requests["batch_index"],
            "task_id": requests["task_id"],
            "prompt": requests["task_id"].map(prompts),
            "completion": requests["text"],
            "input_tokens": requests["input_tokens"],
            "output_tokens": [len(ids) for ids in requests["output_ids"]],
            "stop": requests["stop"],
            "ttft_s": [seconds[0] for seconds in token_s],
            "e2e_s": [seconds[-1] for seconds in token_s],
            "output_ids": requests["output_ids"],
            "token_s": token_s,
        }
    )


def _readings(store: Store, run_id: str) -> pd.DataFrame:
    """The readings of one trial; see `load_readings`."""
    import pandas as pd

    capture = json.loads(store.attached(run_id, artifacts.RECORD))["capture"]
    sources = {series["source"]["id"]: series["source"] for series in capture["series"]}
    names = ["source", "before_ns", "after_ns", "raw_int", "raw_float", "error"]
    rows = _parquet(store, run_id, artifacts.READINGS).reindex(columns=names)
    before, exact = rows["before_ns"].astype("int64"), rows["raw_int"].astype("Int64")
    value = exact.astype("Float64").fillna(rows["raw_float"].astype("Float64"))
    window = pd.Series(pd.NA, index=rows.index, dtype="str")
    for span in capture["windows"]:
        window[(before >= span["start_ns"]) & (before < span["end_ns"])] = span["name"]
    table = pd.DataFrame({"source": rows["source"].astype("str")})
    for name in ("kind", "domain", "unit"):
        table[name] = [sources[source][name] for source in table["source"]]
    return table.assign(
        window=window,
        time_s=(before - capture["windows"][0]["start_ns"]) / 1e9,
        value=value.to_numpy(dtype=float, na_value=np.nan),
        raw_int=exact,
        before_ns=before,
        after_ns=rows["after_ns"].astype("int64"),
        error=rows["error"].astype("str"),
    )


def _parquet(store: Store, run_id: str, name: Path) -> pd.DataFrame:
    """A table of a run; integers stay integers where values are missing."""
    import pandas as pd

    content = io.BytesIO(store.artifact(run_id, name.as_posix()))
    return pd.read_parquet(content, dtype_backend="numpy_nullable")
