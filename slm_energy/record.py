"""The data that stages pass to each other: windows, readings, generations, capture, record.

Frozen dataclasses with a JSON form (`serialization.py`). This file knows no engine, meter, Hydra or
MLflow, and needs only the standard library, so that a worker may run in any Python environment.

Time stamps are integers in nanoseconds of the machine-wide monotonic clock; one `ClockAnchor` ties
them to wall-clock time.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from slm_energy.cell import Trial
from slm_energy.serialization import Json

SCHEMA = 1

TRIAL_FILE = "trial.json"
TASKS_FILE = "tasks.json"
METERING_FILE = "metering.json"
CAPTURE_FILE = "capture.json"
"""What parent and worker call the files by which they speak to each other."""
EXCHANGE = "exchange"
"""The folder of those files, in the trial's own; of no use once the record is written."""

OutcomeName = Literal["valid", "invalid", "failed", "unsupported"]
SourceKind = Literal["counter", "power", "estimate", "gauge"]
Unit = Literal["uJ", "mJ", "J/2^32", "mW", "W", "pct", "MB", "C", "MHz", "count"]

UNITS_PER_JOULE: dict[Unit, int] = {"uJ": 10**6, "mJ": 10**3, "J/2^32": 2**32}
"""Units in which counters and estimates count."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClockAnchor:
    """One instant read on both clocks.

    Attributes:
        monotonic_ns: the monotonic clock.
        unix_ns: the wall clock, nanoseconds since 1970 (UTC).
    """

    monotonic_ns: int
    unix_ns: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A span over which energy is accounted.

    Attributes:
        name: `load`, `baseline`, `warmup`, `prefill` or `serve`.
        start_ns: monotonic time at which the span begins.
        end_ns: monotonic time at which it ends, after the device has finished its work.
        passes: how often the whole workload was served in it.
    """

    name: str
    start_ns: int
    end_ns: int
    passes: int = 0

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return (self.end_ns - self.start_ns) / 1e9


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where readings come from.

    Attributes:
        id: unique and stable, for example `rapl/intel-rapl:0` or `nvml/GPU-1234/energy`. A gauge
            that MLflow's System metrics tab knows has that name: `cpu_utilization_percentage`.
        kind: `counter` (cumulative energy), `power` (instantaneous or averaged power), `estimate`
            (a model's cumulative guess: never mixed with the first two), `gauge` (not energy).
        domain: what it covers: `cpu_package`, `cpu_core`, `cpu_uncore`, `dram`, `psys`, `gpu`,
            `wall`, `machine`; for a gauge the quantity, such as `cpu_utilization`.
        unit: unit of the raw values; `J/2^32` is the step of Linux perf's energy counters.
        modulus: a counter's raw value returns to zero at this number; None if it cannot wrap.
        update_period_ns: how often the device publishes a new value; None if unknown.
        update_period_measured: it was measured on this device, not taken from its documentation.
        resolution: smallest step between two values that was seen, in the unit of raw values; None
            if it was not measured.
        quantum: counters only: values are rounded down to multiples of this, in the unit of raw
            values.
        averaging_ns: power only: each value is the mean over this long before it was published;
            0 for a value of one moment.
        gain_pct: the accuracy that the maker states for a value, in percent of it; 0 where none is
            stated. In the interval of integrated power, not of counters.
        max_power_w: a power that the device cannot exceed; tells a wrap from a reset.
        summed: part of the disjoint cut of domains that is added up to `energy/total_j`.
        device: the device's own identity (socket, GPU UUID).
        path: how it was read: a file, a library call.
    """

    id: str
    kind: SourceKind
    domain: str
    unit: Unit
    modulus: int | None = None
    update_period_ns: int | None = None
    update_period_measured: bool = False
    resolution: int | float | None = None
    quantum: int = 1
    averaging_ns: int = 0
    gain_pct: float = 0.0
    max_power_w: float | None = None
    summed: bool = False
    device: str | None = None
    path: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """The readings of one source, in columns of equal length n.

    A failed reading is a row whose value is None and whose error is not: missing is never zero.

    Attributes:
        source: where they come from.
        before_ns: (n,) monotonic time just before each reading.
        raw: (n,) the value as read, in the source's unit; None where the reading failed.
        after_ns: (n,) monotonic time just after each reading.
        errors: row index (as text, for JSON) to what went wrong there.
    """

    source: Source
    before_ns: tuple[int, ...]
    raw: tuple[int | float | None, ...]
    after_ns: tuple[int, ...]
    errors: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.before_ns) == len(self.raw) == len(self.after_ns):
            raise ValueError(f"{self.source.id}: the columns of its readings differ in length")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Metering:
    """What the worker is told about the meters, which it does not know itself.

    Attributes:
        shortest_s: windows of energy are at least this long, or their interval would be wider than
            `measurement.target_error`: update period over target error.
        marks: socket on which the sampler answers (`exchange.py`).
    """

    shortest_s: float
    marks: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WarmUp:
    """How the warm-up went.

    Attributes:
        paces_ns: (n,) time of a decoding step in each batch, one after the other.
        steady: they had settled when it ended; False when it ended by its cap.
    """

    paces_ns: tuple[int, ...]
    steady: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GateQuantity:
    """One quantity that tells whether the machine is at rest.

    Attributes:
        name: such as `cpu utilization`, `gpu 0 temperature`, `cpu_package power`.
        unit: of the values below: `pct`, `C` or `W`.
        rest: its mean when the sweep began.
        limit: the most that passes for rest.
        first: when the gate first looked; None where it could not be read.
        last: when the gate last looked, right before the trial; None likewise.
    """

    name: str
    unit: Unit
    rest: float
    limit: float
    first: float | None
    last: float | None

    @property
    def at_rest(self) -> bool:
        """What cannot be read is not at rest."""
        return self.last is not None and self.last <= self.limit

    @property
    def description(self) -> str:
        """In words: `cpu utilization 97 % (rest 2, limit 12)`."""
        unit = {"pct": "%", "C": "°C"}.get(self.unit, self.unit)
        last = "unreadable" if self.last is None else f"{self.last:.3g} {unit}"
        return f"{self.name} {last} (rest {self.rest:.3g}, limit {self.limit:.3g})"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GateReport:
    """What was waited for before a trial (`gate.py`).

    Attributes:
        pause_s: the fixed time, `study.gate.pause_s`.
        waited_s: the time after it in which the machine was looked at.
        at_most_s: its cap, `study.gate.at_most_s`.
        quantities: what decided; empty where nothing was looked at.
    """

    pause_s: float
    waited_s: float
    at_most_s: float
    quantities: tuple[GateQuantity, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SamplerReport:
    """What the sampling process says of itself.

    Attributes:
        period_s: the shortest period at which it reads a source of energy.
        cpu_s: processor seconds it used between its first and last reading of this trial.
        wall_s: seconds between them.
        largest_pause_s: by how much the latest of its readings was late: time in which it was
            stopped, starved, or kept waiting by a meter.
        cpus: the processors that it may use.
        finished: it was asked to stop and did; False when it died or hung.
        notes: what it could not open, with the reason, one line each.
    """

    period_s: float
    cpu_s: float | None
    wall_s: float | None
    finished: bool
    largest_pause_s: float | None = None
    cpus: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """One request and its answer.

    Attributes:
        task_id: which prompt of the workload.
        pass_index: the workload is repeated whole inside the serve window; 0 is the first pass.
        batch_index: requests with equal (pass_index, batch_index) were served together.
        prompt_digest: hash of the prompt's token ids (`workload.token_digest`).
        input_tokens: prompt length in tokens, without padding.
        output_ids: generated token ids, without padding; an end-of-text token counts.
        start_ns: the request was handed to the engine.
        token_ns: (len(output_ids),) each token was known to the caller.
        stop: `length` or `eos`.
        text: the decoded output; kept for the first pass, None afterwards.
    """

    task_id: str
    pass_index: int
    batch_index: int
    prompt_digest: str
    input_tokens: int
    output_ids: tuple[int, ...]
    start_ns: int
    token_ns: tuple[int, ...]
    stop: Literal["length", "eos"]
    text: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceAnswer:
    """One prompt and what the reference engine generated for it.

    Attributes:
        task_id: which prompt of the workload.
        prompt_digest: hash of the prompt's token ids (`workload.token_digest`).
        output_ids: generated token ids.
    """

    task_id: str
    prompt_digest: str
    output_ids: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """What the reference engine generated for the same prompts, one at a time.

    Attributes:
        engine: its name.
        dtype: the type that it computed in.
        provider: where it computed.
        answers: one per prompt; empty where there are none.
        error: why there are none.
    """

    engine: str
    dtype: str
    provider: str
    answers: tuple[ReferenceAnswer, ...] = ()
    error: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Capture:
    """The raw facts of a trial; everything else is derived from it.

    Attributes:
        windows: in order of time; names are unique.
        generations: every request served in the serve window.
        effective: settings read back from the running engine, dotted keys (`provider`, `dtype`,
            `threads`, `kv_cache`, `attention`, ...).
        environment: versions, processor, kernel, device names.
        clock: ties monotonic to wall-clock time.
        warmup: None when there was none.
        series: readings of every source; filled in by the parent from the sampler's file.
        sampler: the sampler's own report; None when measurement is off.
        reference: what the outputs are compared with; filled in by the parent; None where nothing
            is compared.
        gate: what was waited for before; filled in by the parent; None where nothing was.
    """

    windows: tuple[Window, ...]
    generations: tuple[Generation, ...]
    effective: dict[str, Json]
    environment: dict[str, Json]
    clock: ClockAnchor
    warmup: WarmUp | None = None
    series: tuple[Series, ...] = ()
    sampler: SamplerReport | None = None
    reference: Reference | None = None
    gate: GateReport | None = None

    def window(self, name: str) -> Window | None:
        """Return the window of that name, or None."""
        return next((w for w in self.windows if w.name == name), None)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EnergyFigure:
    """Joules of one source over one window.

    Attributes:
        source_id: which source.
        domain: what it covers.
        kind: counter, power or estimate.
        window: the window's name.
        joules: the best figure; None where it cannot be known, and then `reasons` says why.
        low_j: lower end of the interval.
        high_j: upper end of the interval.
        summed: part of the disjoint cut that makes the total.
        reasons: why there is no figure.
        flags: things that a reader should know although the figure stands.
        pedigree: readings used, wraps, gaps, coverage, update period, device, path.
    """

    source_id: str
    domain: str
    kind: SourceKind
    window: str
    joules: float | None
    low_j: float | None
    high_j: float | None
    summed: bool
    reasons: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    pedigree: dict[str, Json] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """The verdict of one named expectation about a trial.

    Attributes:
        name: what was expected.
        passed: False makes the trial invalid; None means that it does not apply here.
        detail: one line with the figures.
        flagged: passed, and yet a reader of the numbers should know the detail.
    """

    name: str
    passed: bool | None
    detail: str
    flagged: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a trial ended. Valid has no reasons; the other three say why."""

    name: OutcomeName
    reasons: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """All that is stored of a trial: what was asked, what was seen, what follows.

    Attributes:
        trial: what was asked.
        outcome: how it ended.
        capture: the raw facts; None when the worker gave none.
        energy: joules per source and window.
        metrics: name to value, as MLflow shows them; no NaN, no infinity, nothing unknown as 0.
        checks: the expectations and their verdicts.
        started_unix_ns: when the parent began the trial.
        ended_unix_ns: when it had the outcome.
        phases_s: wall seconds the parent spent per phase (`prepare`, `gate`, `worker`, `derive`).
        node: host name of the node where it ran as a job; empty where the sweep ran it itself.
        job: that job's id; empty likewise.
        schema: version of this format.
    """

    trial: Trial
    outcome: Outcome
    capture: Capture | None
    energy: tuple[EnergyFigure, ...]
    metrics: dict[str, float]
    checks: tuple[CheckResult, ...]
    started_unix_ns: int
    ended_unix_ns: int
    phases_s: dict[str, float] = dataclasses.field(default_factory=dict)
    node: str = ""
    job: str = ""
    schema: int = SCHEMA
