"""The schema of the conf groups: everything a person can set, in frozen dataclasses.

Each group of conf/ is one class; its docstring says what each key means.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from slm_energy import redaction
from slm_energy.errors import ConfigError

Scalar = bool | int | float | str | None
Decode = Literal["session", "generate"]
Dtype = Literal["float32", "bfloat16", "float16", "int8"]

BUNDLED = "bundled"
SENTINEL = "sentinel"
"""Name of the workload of the cell that `study.sentinel` runs once more; no other may have it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Which weights, and how far to trust them.

    Attributes:
        name: what tables and runs call it.
        source: `bundled`, a local folder, or a hub id such as `org/name`.
        revision: commit of a hub id (40 hex digits); None for a folder.
        attention: `auto` takes SDPA except for architectures where it is known to be wrong.
        trust_remote_code: run Python code that comes with the model.
        allow_pickle: accept weights in pickle files, which can run code when they are read.
        weights: `stored` reads them from the source; `random` makes seeded random ones of the same
            architecture, with the bundled tokenizer, without a network.
        scale: `tiny` shrinks a random model to two narrow layers, with every structural flag kept.
        architecture: the model's config.json as far as it decides what is computed; weights that
            are read must have it.
    """

    name: str
    source: str
    revision: str | None = None
    attention: Literal["auto", "eager", "sdpa"] = "auto"
    trust_remote_code: bool = False
    allow_pickle: bool = False
    weights: Literal["stored", "random"] = "stored"
    scale: Literal["full", "tiny"] = "full"
    architecture: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """Which runtime engine, and how it decodes.

    Attributes:
        name: a built-in engine or one from the entry-point group `slm_energy.engines`.
        decode: `session` is our loop over the runtime's own session; `generate` is the library's
            convenience class, what most users call.
        dtype: type of weights and activations; `int8` has linear layers' weights in 8 bits and the
            rest in float32.
        python: another interpreter that runs the engine: a path, or the name of an environment
            that `slm-energy env` made; None is the one that runs the sweep.
        threads: intra-op threads; None means one per processor that the process may use.
        options: the engine's own settings; each engine checks its keys.
    """

    name: str
    decode: Decode = "session"
    dtype: Dtype = "float32"
    threads: int | None = None
    python: str | None = None
    options: dict[str, Scalar] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ProviderConfig:
    """Which execution provider.

    Attributes:
        name: `cpu`, `cuda`, ...
        device: index of the device among those visible.
    """

    name: str
    device: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WallMeterConfig:
    """A meter between the wall and the machine that answers over HTTP with JSON.

    Attributes:
        url: what is asked for, for example `http://192.168.0.7/rpc/Switch.GetStatus?id=0`. User
            and password come from ~/.netrc; a query that wants them has `user=&password=`.
        path: where the value stands in the answer: keys and indices joined by dots, for example
            `aenergy.total` or `Outputs.0.Load`.
        unit: what the value is in: power (`W`, `mW`) or energy counted so far (`Wh`, `kWh`, `J`).
        period_s: how often the meter renews the value.
        gain_pct: the accuracy that its maker states, in percent of the reading.
        timeout_s: a meter that takes longer to answer missed this reading.
    """

    url: str
    path: str
    unit: Literal["W", "mW", "Wh", "kWh", "J"]
    period_s: float = 1.0
    gain_pct: float = 1.0
    timeout_s: float = 2.0

    def __post_init__(self) -> None:
        remedy = "write `machine HOST login USER password PASSWORD` into ~/.netrc"
        _refuse_secret("measurement.wall_meter.url", self.url, remedy)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LimitsConfig:
    """What a trial may suffer from its surroundings and still be valid. All are of one window.

    Attributes:
        foreign_cpu_pct: processor time of programs that are not the trial's, in percent of all
            processors.
        steal_pct: processor time that the hypervisor gave to other machines, in percent.
        throttled_pct: time in which a GPU or processor was slowed down by heat, in percent.
        gpu_processes: compute processes on a metered GPU that are not the trial's.
        disagreement_pct: by how much two views of the same energy may differ before the trial is
            flagged.
        divergence_pct: share of prompts whose tokens may differ from the reference engine's before
            the trial is flagged.
    """

    foreign_cpu_pct: float = 10.0
    steal_pct: float = 5.0
    throttled_pct: float = 5.0
    gpu_processes: int = 0
    disagreement_pct: float = 5.0
    divergence_pct: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MeasurementConfig:
    """What is metered, and for how long.

    Attributes:
        name: the group file's name.
        mode: `auto` measures what it can and falls back to a labelled estimate; `strict` refuses to
            run without a sensor; `off` meters nothing.
        target_error: windows are made long enough for a relative error of at most this, from the
            update period that was measured on the sensor.
        period_s: time between two samples of every source; None gives each source its own.
        baseline_s: length of the idle window with the weights loaded; 0 skips it.
        warmup_requests: requests served at least before the first window that counts.
        warmup_s: the warm-up goes on until requests take a steady time, but at most this long.
        prefill_s: length of the window in which every prompt is answered with one token only; what
            the serve window costs beyond that is decoding. 0 skips it.
        serve_s: the workload is repeated whole until the serve window is at least this long.
        max_gap_s: a window with a longer hole between readings is invalid.
        isolation: how a trial's process begins. `spawn` starts an interpreter that imports the
            engine's libraries; `forkserver` forks one that has imported them (`forkserver.py`).
        powercap_root: folder of the Linux powercap tree.
        wall_meter: a meter at the wall, if there is one.
        limits: what a trial may suffer from its surroundings and still be valid.
    """

    name: str
    mode: Literal["auto", "strict", "off"] = "auto"
    target_error: float = 0.01
    period_s: float | None = None
    baseline_s: float = 1.0
    warmup_requests: int = 4
    warmup_s: float = 10.0
    prefill_s: float = 0.0
    serve_s: float = 5.0
    max_gap_s: float = 1.0
    isolation: Literal["spawn", "forkserver"] = "spawn"
    powercap_root: str = "/sys/class/powercap"
    wall_meter: WallMeterConfig | None = None
    limits: LimitsConfig = dataclasses.field(default_factory=LimitsConfig)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadConfig:
    """Which prompts, and what is asked for each.

    Attributes:
        name: what tables and runs call it.
        source: `bundled`, a `.jsonl` or `.jsonl.gz` file, or a hub data set id.
        revision: commit of a hub id (40 hex digits).
        limit: take the first so many prompts; None takes all.
        batch_size: requests served together.
        new_tokens: tokens to generate per request.
        stop: `fixed` generates exactly new_tokens; `eos` may stop at an end-of-text token.
    """

    name: str
    source: str
    revision: str | None = None
    limit: int | None = None
    batch_size: int = 1
    new_tokens: int = 64
    stop: Literal["fixed", "eos"] = "fixed"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig:
    """What a trial waits for before it begins, so that it inherits no heat and no load.

    The machine is compared with itself as it was when the sweep began.

    Attributes:
        pause_s: a fixed time, before anything is looked at.
        at_most_s: the longest wait for the machine to be at rest; 0 does not look at it.
        load_pct: by how many points processors and GPUs may be busier than at rest.
        temperature_c: by how many degrees they may be warmer.
        power_pct: by how many percent they may draw more.
    """

    pause_s: float = 0.0
    at_most_s: float = 60.0
    load_pct: float = 10.0
    temperature_c: float = 5.0
    power_pct: float = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StudyConfig:
    """How the grid is run.

    Attributes:
        name: the MLflow experiment; the same name continues the same study.
        rounds: how often each cell is run; raising it extends a study.
        seed: decides the order of cells within each round.
        order: `random`, drawn anew for each round, or `williams`: balanced, so that each cell
            follows every other one equally often.
        busy: what to do while another sweep measures on this machine: `wait` or `refuse`; where
            nothing is metered, `share` runs beside others that share, on other processors.
        exclude: combinations to leave out; each maps dotted keys to a value or a list of values and
            may give a `reason`.
        attempts: how often a failing trial is tried in all, over this and later invocations.
        timeout_s: a worker that takes longer is ended and the trial has failed.
        reference: the engine whose tokens every other engine's are compared with; it serves each
            model once beforehand, one prompt at a time. None compares nothing.
        sentinel: names one cell, in the form of a rule of `exclude`; it is run once more at the
            start of each round, takes part in no comparison and shows drift. None runs none.
        precision_pct: the study ends after a round in which every pair's interval is narrower than
            plus and minus so many per cent, on the first metric; `rounds` is then the most it
            takes. None runs all rounds.
        gate: what a trial waits for before it begins.
    """

    name: str
    rounds: int = 1
    seed: int = 0
    order: Literal["random", "williams"] = "random"
    busy: Literal["wait", "refuse", "share"] = "wait"
    exclude: tuple[dict[str, Any], ...] = ()
    attempts: int = 2
    timeout_s: float = 3600.0
    reference: str | None = "torch"
    sentinel: dict[str, Any] | None = None
    precision_pct: float | None = None
    gate: GateConfig = dataclasses.field(default_factory=GateConfig)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig:
    """Where records go.

    Attributes:
        name: the group file's name.
        folder: holds the SQLite store, its artifacts, and records that wait to be sent.
        uri: an MLflow server, or a database that MLflow opens; None means the SQLite store in
            `folder`. A password has no place in it.
        offline: no store is opened: records stay in `folder` until `slm-energy sync`.
    """

    name: str
    folder: str = "mlruns"
    uri: str | None = None
    offline: bool = False

    def __post_init__(self) -> None:
        if self.uri is None:
            return
        remedy = "set PGPASSWORD, or write ~/.pgpass (other databases need an MLflow server)"
        if self.uri.startswith(("http://", "https://")):
            remedy = (
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD,"
                " or MLFLOW_TRACKING_TOKEN"
            )
        _refuse_secret("tracking.uri", self.uri, remedy)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CacheConfig:
    """Where engines keep what they derive from weights.

    Attributes:
        name: the group file's name.
        folder: None is the user's cache folder.
        limit_gb: what is used least goes when the cache is larger (1 GB is 1e9 bytes).
    """

    name: str
    folder: str | None = None
    limit_gb: float = 100.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LauncherConfig:
    """How trials run as jobs, from `hydra/launcher`; it changes no result and is no factor.

    Attributes:
        cluster: `slurm`; or `local`, processes of this machine, to try the way without a cluster.
        at_once: the most jobs that wait or run (`hydra.launcher.array_parallelism`).
        parameters: what submitit asks the cluster for, in the words of Hydra's plugin.
    """

    cluster: Literal["slurm", "local"]
    at_once: int
    parameters: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything a person can set, checked.

    Attributes:
        launcher: None runs the trials in the sweep's own process; Hydra has it in a place of its
            own, so it is no group.
    """

    model: ModelConfig
    engine: EngineConfig
    provider: ProviderConfig
    measurement: MeasurementConfig
    workload: WorkloadConfig
    study: StudyConfig
    tracking: TrackingConfig
    cache: CacheConfig
    launcher: LauncherConfig | None = None


def _refuse_secret(key: str, url: str, remedy: str) -> None:
    """A configuration is stored, printed and handed to processes on their command line."""
    if redaction.in_url(url):
        raise ConfigError(f"{key} has a user or a password in it: leave them out and {remedy}")
