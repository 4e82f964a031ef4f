"""The schema of the groups in conf/: every key of a run, in frozen dataclasses.

Each group is one class, and each key is one field: type, default, and a `Key` with meaning and
range.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, Any, Literal

from slm_energy import redaction
from slm_energy.config.key import Key
from slm_energy.errors import ConfigError

Scalar = bool | int | float | str | None
Decode = Literal["session", "generate"]
Dtype = Literal["float32", "bfloat16", "float16", "int8", "int6", "int5", "int4", "stored"]

BUNDLED = "bundled"
SENTINEL = "sentinel"
"""Name of the workload of the cell that `study.sentinel` runs once more; no other may have it."""

_STORE = re.compile(
    r"https?://[^/]|(postgresql|mysql|mssql)(\+\w+)?://.|sqlite(\+\w+)?:///(?!:memory:)."
)
"""The URIs of servers, and of the databases that MLflow knows; one in memory would keep nothing."""

_DAY_S = 86400


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FimConfig:
    """The tokens with which a model was trained to fill in the middle.

    A prompt is `prefix`, what precedes the middle, `suffix`, what follows it, `middle`.
    """

    prefix: Annotated[str, Key("token before the text that precedes the middle")]
    suffix: Annotated[str, Key("token before the text that follows it")]
    middle: Annotated[str, Key("token after which the middle is generated")]
    ends: Annotated[
        tuple[str, ...],
        Key("tokens that end the middle, besides the three above and the end of text"),
    ] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Which weights are served, and how far they are trusted."""

    name: Annotated[str, Key("name in tables and runs")]
    source: Annotated[
        str, Key("bundled, a local folder, a .gguf file, or a hub id such as org/name")
    ]
    revision: Annotated[str | None, Key("commit of a hub id, 40 hex digits; null for a folder")] = (
        None
    )
    attention: Annotated[
        Literal["auto", "eager", "sdpa"],
        Key("auto is SDPA, except for architectures where it is known to be wrong"),
    ] = "auto"
    trust_remote_code: Annotated[bool, Key("run Python code that comes with the model")] = False
    allow_pickle: Annotated[
        bool, Key("accept pickled weights, which can run code when they are loaded")
    ] = False
    weights: Annotated[
        Literal["stored", "random"],
        Key(
            "read weights from the source, or make random ones of the same architecture. Random"
            " weights are seeded, use the bundled tokenizer and need no network."
        ),
    ] = "stored"
    scale: Annotated[
        Literal["full", "tiny"],
        Key(
            "tiny shrinks a random model to two narrow layers. Every structural property of the"
            " architecture is kept."
        ),
    ] = "full"
    architecture: Annotated[
        dict[str, Any],
        Key(
            "the part of config.json that decides what is computed. Stored weights that differ from"
            " it are refused; random weights are made from it."
        ),
    ] = dataclasses.field(default_factory=dict)
    fim: Annotated[
        FimConfig | None,
        Key(
            "tokens with which the model was trained to fill in the middle; null if it was not."
            " Each is one token of its tokenizer."
        ),
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """Which runtime engine serves the model, and how it decodes."""

    name: Annotated[
        str, Key("a built-in engine, or one from the entry-point group slm_energy.engines")
    ]
    decode: Annotated[
        Decode,
        Key(
            "our loop over the runtime's own session, or the library's convenience class. Most"
            " users call the latter."
        ),
    ] = "session"
    dtype: Annotated[
        Dtype,
        Key(
            "type of weights and activations. int8 to int4 store the weights of linear layers in"
            " so many bits and compute the rest in float32; stored serves a checkpoint that is"
            " already quantized (GGUF, AWQ, GPTQ, ...) as it is."
        ),
    ] = "float32"
    threads: Annotated[
        int | None,
        Key(
            "intra-op threads; null is one per processor that affinity and CPU quota allow",
            low=1,
            high=4096,
        ),
    ] = None
    python: Annotated[
        str | None,
        Key(
            "another interpreter: a path, or an environment made by `slm-energy env`. null is the"
            " interpreter that runs the sweep."
        ),
    ] = None
    env: Annotated[
        tuple[str, ...],
        Key(
            "names of further environment variables that workers and servers get, such as"
            " [HF_TOKEN]. Without it they get those of the shell and of the libraries that compute"
            " (PATH, HOME, OMP_*, CUDA_*, HF_HOME, ...); values are not stored."
        ),
    ] = ()
    options: Annotated[
        dict[str, Scalar],
        Key("settings of this engine. They are listed in conf/engine/NAME.yaml."),
    ] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ProviderConfig:
    """Which execution provider computes."""

    name: Annotated[str, Key("execution provider, such as cpu or cuda")]
    device: Annotated[
        int, Key("index among the visible devices; not used on cpu", low=0, high=1023)
    ] = 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WallMeterConfig:
    """A meter between the wall and the machine that answers over HTTP with JSON."""

    url: Annotated[
        str,
        Key(
            "address to query, such as http://192.168.0.7/rpc/Switch.GetStatus?id=0. User and"
            " password come from ~/.netrc; a query that needs them contains `user=&password=`. A"
            " bearer token comes from the variable SLM_ENERGY_WALL_TOKEN, or from ~/.netrc as the"
            " password of the login `bearer`."
        ),
    ]
    path: Annotated[
        str,
        Key(
            "location of the value in the response, such as aenergy.total or Outputs.0.Load. Keys"
            " and indices are joined by dots; a number may be quoted."
        ),
    ]
    unit: Annotated[
        Literal["W", "mW", "Wh", "kWh", "Wmin", "J"],
        Key("unit of the value: power, or energy counted so far"),
    ]
    power_path: Annotated[
        str | None,
        Key(
            "location of the power in W in the same response, where the value is energy. The unit"
            " is checked against it, and windows get as long as the counter's steps require. null"
            " looks where Shelly, NETIO and Tasmota have it."
        ),
    ] = None
    period_s: Annotated[
        float, Key("how often the meter updates the value", low=0.01, high=3600)
    ] = 1.0
    gain_pct: Annotated[
        float,
        Key("accuracy stated by the manufacturer, in percent of the reading", low=0, high=100),
    ] = 1.0
    lag_s: Annotated[
        float | None,
        Key(
            "by how much its values are late, in addition to the period. null is unknown: anything"
            " from 0 to 3 s is taken into account.",
            low=0,
            high=60,
        ),
    ] = None
    timeout_s: Annotated[
        float, Key("a reading that takes longer is missing", low=0.01, high=60)
    ] = 2.0
    ca_file: Annotated[
        str | None,
        Key(
            "file with the certificate, in PEM format, that an https:// address is verified with."
            " null is the usual authorities."
        ),
    ] = None

    def __post_init__(self) -> None:
        remedy = "write `machine HOST login USER password PASSWORD` into ~/.netrc"
        _refuse_secret("measurement.wall_meter.url", self.url, remedy)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LimitsConfig:
    """Disturbances that a trial may suffer and still be valid, each within one window."""

    foreign_cpu_pct: Annotated[
        float,
        Key("processor time of other programs, in percent of all processors", low=0, high=100),
    ] = 10.0
    steal_pct: Annotated[
        float,
        Key("processor time that the hypervisor gave to other machines", low=0, high=100),
    ] = 5.0
    throttled_pct: Annotated[
        float,
        Key("time in which heat, or a CPU quota, slowed down a GPU or processor", low=0, high=100),
    ] = 5.0
    gpu_processes: Annotated[
        int,
        Key("compute foreign processes on a metered GPU", low=0, high=1_000_000),
    ] = 0
    disagreement_pct: Annotated[
        float,
        Key(
            "difference between two views of the same energy; above it the trial is flagged",
            low=0,
            high=1000,
        ),
    ] = 5.0
    divergence_pct: Annotated[
        float,
        Key(
            "prompts with other tokens than the reference's; above it the trial is flagged",
            low=0,
            high=100,
        ),
    ] = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MeasurementConfig:
    """What is metered, and for how long."""

    name: Annotated[str, Key("name of the group file")]
    mode: Annotated[
        Literal["auto", "strict", "off"],
        Key(
            "without a sensor auto estimates and strict refuses; off meters nothing. Estimates are"
            ' stored under names of their own. Quote "off" in YAML.'
        ),
    ] = "auto"
    target_error: Annotated[
        float,
        Key(
            "windows are long enough for this relative error. The length follows from the update"
            " period that was measured on the sensor.",
            low=0.0001,
            high=1,
        ),
    ] = 0.01
    period_s: Annotated[
        float | None,
        Key(
            "time between two samples of a source; null gives each source its own",
            low=0.001,
            high=60,
        ),
    ] = None
    baseline_s: Annotated[
        float,
        Key("length of the idle window with the weights loaded; 0 skips it", low=0, high=_DAY_S),
    ] = 10.0
    warmup_requests: Annotated[
        int,
        Key("fewest requests served before the windows that count", low=0, high=1_000_000),
    ] = 4
    warmup_s: Annotated[
        float,
        Key(
            "longest warm-up; it ends earlier when requests take a steady time",
            low=0,
            high=_DAY_S,
        ),
    ] = 10.0
    prefill_s: Annotated[
        float,
        Key(
            "length of the window that answers each prompt with one token; 0 skips it. What the"
            " serve window costs beyond that is decoding. Under load there is none.",
            low=0,
            high=_DAY_S,
        ),
    ] = 0.0
    serve_s: Annotated[
        float,
        Key(
            "the whole workload is repeated until the serve window is this long",
            low=0,
            high=_DAY_S,
        ),
    ] = 5.0
    max_gap_s: Annotated[
        float,
        Key("a longer gap between readings makes a window invalid", low=0.01, high=_DAY_S),
    ] = 1.0
    isolation: Annotated[
        Literal["spawn", "forkserver"],
        Key(
            "start an interpreter for each trial, or fork a prepared one. The prepared one has"
            " imported the engine's libraries; a trial is a process of its own either way."
        ),
    ] = "spawn"
    powercap_root: Annotated[
        str, Key("folder of the Linux powercap tree, where RAPL counters are")
    ] = "/sys/class/powercap"
    hwmon_root: Annotated[
        str, Key("folder of the Linux hwmon tree: sensors of GPUs, ARM processors, Jetson, servers")
    ] = "/sys/class/hwmon"
    leave_out: Annotated[
        tuple[str, ...],
        Key(
            "ids of energy sources that are neither read nor summed, such as"
            " rapl/intel-rapl:0:2. An id may be a pattern (rapl/*:2); `slm-energy doctor` lists"
            " the ids. Each must match a source."
        ),
    ] = ()
    wall_meter: Annotated[
        WallMeterConfig | None,
        Key("meter at the wall; measurement=wall has its keys"),
    ] = None
    limits: Annotated[
        LimitsConfig, Key("disturbances that a trial may suffer and still be valid")
    ] = dataclasses.field(default_factory=LimitsConfig)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadConfig:
    """Which prompts are served, and what is generated for each."""

    name: Annotated[str, Key("name in tables and runs")]
    source: Annotated[
        str, Key("bundled, humaneval, a .jsonl or .jsonl.gz file, or the hub id of a data set")
    ]
    revision: Annotated[str | None, Key("commit of a hub id, 40 hex digits; null for a file")] = (
        None
    )
    columns: Annotated[
        dict[str, str] | None,
        Key(
            "{prompt: text} reads a task's prompt from a column of another name; null renames none."
            " docs/explanation/answers.md lists the fields that have columns."
        ),
    ] = dataclasses.field(default=None, hash=False)  # a workload is the key of a cache
    limit: Annotated[
        int | None,
        Key("use only this many prompts, from the first; null uses all", low=1, high=1_000_000_000),
    ] = None
    batch_size: Annotated[int, Key("requests served together", low=1, high=4096)] = 1
    new_tokens: Annotated[int, Key("tokens to generate per request", low=1, high=1_000_000)] = 64
    stop: Annotated[
        Literal["fixed", "eos", "code"],
        Key(
            "generate exactly new_tokens, or end early. With eos, at an end-of-text token; with"
            " code, also where the requested code is complete."
        ),
    ] = "fixed"
    prompt: Annotated[
        Literal["completion", "chat"],
        Key(
            "send the prompt as it is, to be continued, or in the model's chat template. With chat,"
            " a prompt may be a list of messages, which are sent as they are."
        ),
    ] = "completion"
    fim: Annotated[
        bool,
        Key(
            "fill in the middle, between what precedes and what follows the solution. The markers"
            " are the model's own."
        ),
    ] = False


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SloConfig:
    """What a good answer promises; null promises nothing."""

    ttft_s: Annotated[
        float | None,
        Key("longest time to the first token, from the scheduled arrival", low=0, high=_DAY_S),
    ] = None
    tpot_s: Annotated[
        float | None, Key("longest mean time per output token after the first", low=0, high=_DAY_S)
    ] = None
    e2e_s: Annotated[
        float | None,
        Key("longest time to the last token, from the scheduled arrival", low=0, high=_DAY_S),
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadConfig:
    """How requests come: batch after batch, from clients that wait, or at times of their own."""

    name: Annotated[str, Key("name of the group file")] = "batch"
    mode: Annotated[
        Literal["batch", "closed", "open"],
        Key(
            "batch after batch, from a number of clients, or at given times. A closed loop sends"
            " when an answer has come; an open one sends whatever the server does, as users do."
        ),
    ] = "batch"
    clients: Annotated[
        int, Key("closed: clients that each send one request at a time", low=1, high=10_000)
    ] = 1
    think_s: Annotated[
        float,
        Key("closed: pause of a client between an answer and its next request", low=0, high=_DAY_S),
    ] = 0.0
    rate: Annotated[
        float | None,
        Key("open: requests per second; null takes the times of a trace", low=1e-6, high=100_000),
    ] = None
    arrivals: Annotated[
        Literal["constant", "poisson", "gamma"],
        Key("open: equal gaps, random ones, or random ones of a chosen burstiness"),
    ] = "poisson"
    burstiness: Annotated[
        float,
        Key(
            "gamma: shape of the distribution of gaps; below 1 requests come in bursts. 1 is"
            " Poisson; the squared coefficient of variation is 1 / burstiness.",
            low=0.01,
            high=1000,
        ),
    ] = 1.0
    trace: Annotated[
        str | None,
        Key(
            "open: CSV file with a request per line and the column arrived_s. The columns"
            " output_tokens, input_tokens and abort_after_s are optional."
        ),
    ] = None
    seed: Annotated[
        int, Key("decides the arrivals, with the round: they are the same for every engine")
    ] = 0
    ramp_s: Annotated[
        float,
        Key(
            "longest ramp-up; the window begins earlier when the throughput is steady",
            low=0,
            high=_DAY_S,
        ),
    ] = 60.0
    abort_after_s: Annotated[
        float | None,
        Key("requests are aborted after this time; null aborts none", low=0.001, high=_DAY_S),
    ] = None
    timeout_s: Annotated[
        float,
        Key("a request without its last token for this long has failed", low=0.1, high=_DAY_S),
    ] = 120.0
    late_s: Annotated[
        float,
        Key(
            "a client that sends 1 % of its requests later than this makes a trial invalid",
            low=0,
            high=60,
        ),
    ] = 0.05
    client_cpu_pct: Annotated[
        float,
        Key(
            "processor time of the client, in percent of one; above it a trial is invalid",
            low=1,
            high=100,
        ),
    ] = 80.0
    slo: Annotated[SloConfig, Key("what a good answer promises")] = dataclasses.field(
        default_factory=SloConfig
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig:
    """What a trial waits for before it begins, so that it inherits no heat and no load.

    The machine is compared with its state when the sweep began.
    """

    pause_s: Annotated[
        float, Key("fixed pause before the machine is checked", low=0, high=_DAY_S)
    ] = 0.0
    at_most_s: Annotated[
        float,
        Key("longest wait for the machine to be at rest again; 0 skips it", low=0, high=_DAY_S),
    ] = 60.0
    load_pct: Annotated[
        float,
        Key("percentage points by which processors and GPUs may be busier", low=0, high=100),
    ] = 10.0
    temperature_c: Annotated[float, Key("degrees by which they may be warmer", low=0, high=100)] = (
        5.0
    )
    power_pct: Annotated[
        float, Key("percent by which they may draw more power", low=0, high=1000)
    ] = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StudyConfig:
    """How the grid is run."""

    name: Annotated[str, Key("MLflow experiment; the same name continues the same study")]
    rounds: Annotated[
        int,
        Key("times that each cell is run; raise it to extend a study", low=1, high=1_000_000),
    ] = 1
    seed: Annotated[int, Key("decides the order of cells within each round")] = 0
    order: Annotated[
        Literal["random", "williams"],
        Key(
            "shuffled anew in each round, or balanced against carry-over. In a Williams design"
            " each cell follows every other one equally often."
        ),
    ] = "random"
    busy: Annotated[
        Literal["wait", "refuse", "share"],
        Key(
            "what to do while another sweep uses this machine. Where nothing is metered, share runs"
            " beside others that share, on other processors."
        ),
    ] = "wait"
    exclude: Annotated[
        tuple[dict[str, Any], ...],
        Key(
            "combinations to leave out, such as [{engine: onnx, provider: cuda, reason: no cuDNN}]."
            " Each maps dotted keys to a value or a list of values; a reason is optional."
        ),
    ] = ()
    revisions: Annotated[
        dict[str, str] | None,
        Key(
            "commits of models without a model.revision, by name, such as {codegemma-2b: COMMIT}."
            " slm-energy fetch prints them."
        ),
    ] = None
    attempts: Annotated[
        int,
        Key(
            "tries of a failing trial, over this and later invocations. A failure caused by its"
            " settings or files, such as missing weights, is tried once in each.",
            low=1,
            high=1000,
        ),
    ] = 2
    timeout_s: Annotated[
        float,
        Key(
            "a worker without progress for this long is stopped; its trial has failed. Progress is"
            " an answered prompt or batch, or the next phase: a large workload needs no longer"
            " limit than a small one.",
            low=1,
            high=10_000_000,
        ),
    ] = 3600.0
    reference: Annotated[
        str | None,
        Key(
            "engine whose tokens all others are compared with; null compares nothing. It serves"
            " each model once beforehand, one prompt at a time."
        ),
    ] = "torch"
    sandbox: Annotated[
        Literal["bubblewrap", "none", "off"],
        Key(
            "where generated code is tested after a trial; none runs it with your own rights, off"
            " tests nothing. Tasks without tests are never scored."
        ),
    ] = "bubblewrap"
    sentinel: Annotated[
        dict[str, Any] | None,
        Key(
            "cell to run once more in each round, to show drift, such as {engine: torch}. It is"
            " written like a rule of exclude, runs first, and is not compared with any cell."
        ),
    ] = None
    precision_pct: Annotated[
        float | None,
        Key(
            "stop after the round in which every pair's own t interval is within this many percent."
            " The first metric decides, and rounds is then the largest number of rounds; null runs"
            " all rounds. The simultaneous intervals of a report are wider.",
            low=0.01,
            high=100,
        ),
    ] = None
    gate: Annotated[
        GateConfig, Key("what a trial waits for, so that it inherits no heat and no load")
    ] = dataclasses.field(default_factory=GateConfig)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig:
    """Where records are stored."""

    name: Annotated[str, Key("name of the group file")]
    folder: Annotated[
        str,
        Key("folder of the SQLite store, its artifacts, and records that are not sent yet"),
    ] = "mlruns"
    uri: Annotated[
        str | None,
        Key(
            "MLflow server or database; null is the SQLite store in the folder. It must not contain"
            " a password."
        ),
    ] = None
    offline: Annotated[
        bool, Key("keep records in the folder until `slm-energy sync` sends them")
    ] = False

    def __post_init__(self) -> None:
        if self.uri is None:
            return
        if not _STORE.match(self.uri):
            raise ConfigError(
                f"tracking.uri={self.uri} is neither a server nor a database: for a folder"
                " set tracking.folder=PATH; a URI is https://HOST, sqlite:///FILE or"
                " postgresql+psycopg2://USER@HOST/NAME"
            )
        remedy = "set PGPASSWORD, or write ~/.pgpass (other databases need an MLflow server)"
        if self.uri.startswith(("http://", "https://")):
            remedy = (
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD,"
                " or MLFLOW_TRACKING_TOKEN"
            )
        _refuse_secret("tracking.uri", self.uri, remedy)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CacheConfig:
    """Where engines keep what they derive from weights."""

    name: Annotated[str, Key("name of the group file")]
    folder: Annotated[
        str | None,
        Key("null is the user's cache folder; users and nodes of a cluster may share one"),
    ] = None
    limit_gb: Annotated[
        float,
        Key(
            "size above which the least recently used entries are removed. 1 GB is 1e9 bytes.",
            low=0,
            high=1_000_000_000,
        ),
    ] = 100.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LauncherConfig:
    """How trials run as jobs, from `hydra/launcher`; it changes no result and is no factor.

    Attributes:
        cluster: `slurm`, or `local`: processes of this machine, to try the job path without a
            cluster.
        at_once: the most jobs that are pending or running (`hydra.launcher.array_parallelism`).
        parameters: what submitit requests from the cluster, under the names of Hydra's plugin.
    """

    cluster: Literal["slurm", "local"]
    at_once: int
    parameters: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Every group of a run, checked.

    Attributes:
        launcher: None runs the trials from the sweep's own process. Hydra keeps it under
            `hydra/launcher`, so it is not a group.
    """

    model: ModelConfig
    engine: EngineConfig
    provider: ProviderConfig
    measurement: MeasurementConfig
    workload: WorkloadConfig
    load: LoadConfig = dataclasses.field(default_factory=LoadConfig)
    study: StudyConfig
    tracking: TrackingConfig
    cache: CacheConfig
    launcher: LauncherConfig | None = None


def _refuse_secret(key: str, url: str, remedy: str) -> None:
    """A configuration is stored, printed and handed to processes on their command line."""
    if redaction.in_url(url):
        raise ConfigError(f"{key} has a user or a password in it: leave them out and {remedy}")
