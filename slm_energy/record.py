"""The data that stages pass to each other: windows, readings, generations, capture, record.

Frozen dataclasses with a JSON form (`serialization.py`). This module uses no engine, meter, Hydra
or MLflow, only the standard library, so that a worker may run in any Python environment.

Time stamps are integers in nanoseconds of the machine-wide monotonic clock; one `ClockAnchor` ties
them to wall-clock time.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Sequence
from typing import Any, Literal

from slm_energy.cell import Trial
from slm_energy.cpu_quota import CpuQuota, Quotas
from slm_energy.serialization import Json

SCHEMA = 1

TRIAL_FILE = "trial.json"
TASKS_FILE = "tasks.json"
METERING_FILE = "metering.json"
CAPTURE_FILE = "capture.json"
"""Names of the files that parent and worker exchange."""
EXCHANGE = "exchange"
"""Their folder within the trial's folder; removed once the record is written."""

OutcomeName = Literal["valid", "invalid", "failed", "unsupported"]
Ended = Literal["complete", "aborted", "refused", "failed"]
SourceKind = Literal["counter", "power", "estimate", "gauge"]
Unit = Literal["uJ", "mJ", "J/2^32", "uW", "mW", "W", "pct", "MB", "C", "MHz", "count"]

UNITS_PER_JOULE: dict[Unit, int] = {"uJ": 10**6, "mJ": 10**3, "J/2^32": 2**32}
"""Units of counters and estimates."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClockAnchor:
    """One instant read on all clocks.

    Attributes:
        monotonic_ns: the monotonic clock, which stops while the machine is suspended.
        unix_ns: the wall clock, nanoseconds since 1970 (UTC); it can be set.
        boot_ns: the clock that also counts while the machine is suspended (CLOCK_BOOTTIME); None
            if there is none.
    """

    monotonic_ns: int
    unix_ns: int
    boot_ns: int | None = None

    def suspended_ns(self, earlier: ClockAnchor) -> int | None:
        """Time since an earlier instant in which the machine was suspended; None if unknown."""
        if self.boot_ns is None or earlier.boot_ns is None:
            return None
        return self.boot_ns - earlier.boot_ns - (self.monotonic_ns - earlier.monotonic_ns)

    def wall_step_ns(self, earlier: ClockAnchor) -> int:
        """How far the wall clock was set since an earlier instant; negative if it was set back."""
        passed_ns = self.monotonic_ns - earlier.monotonic_ns + (self.suspended_ns(earlier) or 0)
        return self.unix_ns - earlier.unix_ns - passed_ns


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A span over which energy is accounted.

    Attributes:
        name: `load`, `baseline`, `warmup`, `prefill` or `serve`.
        start_ns: monotonic time at which the span begins.
        end_ns: monotonic time at which it ends, after the device has finished its work.
        passes: number of passes over the workload within it.
        suspended_ns: time between its ends in which the machine was suspended, which the other
            times do not contain; exact within some microseconds. None if unknown.
        quota: the tightest CPU quota alone, in records of versions that read no others.
        quotas: all CPU quotas, with what each withheld within the window; None in those records.
    """

    name: str
    start_ns: int
    end_ns: int
    passes: int = 0
    suspended_ns: int | None = None
    quota: CpuQuota | None = None
    quotas: Quotas | None = None

    @property
    def withheld(self) -> Quotas:
        """What is known of CPU quotas and what they withheld, whatever version recorded it."""
        if self.quotas is not None:
            return self.quotas
        if self.quota is not None:
            return Quotas(groups=(self.quota,))
        return Quotas(unknown="there is no CPU quota, or it is unknown")

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return (self.end_ns - self.start_ns) / 1e9


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """A fitted quantity with its interval.

    Attributes:
        low: lower end of the 95 % interval.
        best: the estimate.
        high: upper end.
    """

    low: float
    best: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """A source compared with a reference on this machine (`slm-energy calibrate`).

    True power = (shown power - offset_w) / gain, `lag_s` earlier than it was shown.

    Attributes:
        reference: id of the source that it was compared with, or a name given by the user.
        unix_ns: when.
        gain: shown power per true power, without a unit.
        offset_w: shown power at a true power of zero.
        lag_s: how much later than the reference it shows a change.
    """

    reference: str
    unix_ns: int
    gain: Fitted
    offset_w: Fitted
    lag_s: Fitted


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The source of a series of readings.

    Attributes:
        id: unique and stable, for example `rapl/intel-rapl:0` or `nvml/GPU-1234/energy`. A gauge
            in MLflow's System metrics tab has MLflow's name: `cpu_utilization_percentage`.
        kind: `counter` (cumulative energy), `power` (instantaneous or averaged power), `estimate`
            (a model's cumulative estimate: never mixed with the first two), `gauge` (not energy).
        domain: what it covers: `cpu_package`, `cpu_core`, `cpu_uncore`, `dram`, `psys`, `gpu`,
            `wall`, `machine`; for a gauge the quantity, such as `cpu_utilization`.
        unit: unit of the raw values; `J/2^32` is the step of Linux perf's energy counters.
        modulus: a counter's raw value returns to zero at this number; None if it cannot wrap.
        update_period_ns: how often the device publishes a new value; None if unknown.
        update_period_measured: it was measured on this device, not taken from its documentation.
        resolution: smallest observed step between two values, in the unit of raw values; None if it
            was not measured.
        quantum: counters only: values are rounded down to multiples of this, in the unit of raw
            values.
        averaging_ns: power: each value is the mean over this time before it was published; 0 for an
            instantaneous value. Counter: the part of each update period that its sensor observes;
            0 if it observes all of it.
        step_noise_pct: counter: each step between two publications is distorted at random by up to
            this much of itself; the mean of many is not (RAPL's energy filter).
        lag_ns: how long after energy was used it appears in the values, beyond the update period.
        lag_error_ns: `lag_ns` is correct within this, in both directions.
        gain_pct: accuracy of this class of sensor, in percent of the value, as stated by its maker
            or found in the literature; 0 if unknown. Enters only the interval with sensor gain.
        calibration: this source's own gain, offset and lag; None if it was not calibrated.
        max_power_w: a power that the device cannot exceed; distinguishes a wrap from a reset.
        summed: part of the disjoint cut of domains that is added up (`meters/domains.py`).
        idle_w: mean power as the source was opened: what a window uses at least; None if it was
            not measured. Tells how long a counter with a coarse `quantum` takes for one step.
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
    step_noise_pct: float = 0.0
    lag_ns: int = 0
    lag_error_ns: int = 0
    gain_pct: float = 0.0
    calibration: Calibration | None = None
    max_power_w: float | None = None
    summed: bool = False
    idle_w: float | None = None
    device: str | None = None
    path: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """The readings of one source, in columns of equal length n.

    A failed reading is a row with an error and the value None: missing is never zero. Columns
    become arrays of 8 bytes per value where their values allow it: a long trial has millions.

    Attributes:
        source: their source.
        before_ns: (n,) monotonic time just before each reading.
        raw: (n,) the raw value, in the source's unit; None if the reading failed.
        after_ns: (n,) monotonic time just after each reading.
        errors: row index (as text, for JSON) to error message.
    """

    source: Source
    before_ns: Sequence[int]
    raw: Sequence[int | float | None]
    after_ns: Sequence[int]
    errors: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("before_ns", "raw", "after_ns"):
            object.__setattr__(self, name, _compact(getattr(self, name)))
        if not len(self.before_ns) == len(self.raw) == len(self.after_ns):
            raise ValueError(f"{self.source.id}: the columns of its readings differ in length")


def _compact(column: Sequence[Any]) -> Sequence[Any]:
    """An array if all values are integers of 64 bits, or all are floats; else a tuple."""
    if isinstance(column, array):
        return column
    try:
        kind: Any = "d" if set(map(type, column)) == {float} else "q"
        return array(kind, column)
    except (TypeError, OverflowError):
        return tuple(column)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Metering:
    """The worker's information about the meters.

    Attributes:
        shortest_s: minimum length of a window of energy, so that its interval is within
            `measurement.target_error`: update period over target error.
        marks: path of the sampler's socket (`exchange.py`).
    """

    shortest_s: float
    marks: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WarmUp:
    """The result of the warm-up.

    Attributes:
        paces_ns: (n,) time of a decoding step in each batch, in order.
        steady: they were steady when it ended; False if it ended at its cap.
    """

    paces_ns: tuple[int, ...]
    steady: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GateQuantity:
    """One quantity that indicates whether the machine is at rest.

    Attributes:
        name: such as `cpu utilization`, `gpu 0 temperature`, `cpu_package power`.
        unit: of the values below: `pct`, `C` or `W`.
        rest: its mean when the sweep began.
        limit: the highest value that counts as rest.
        first: at the gate's first reading; None if it could not be read.
        last: at the gate's last reading, right before the trial; None likewise.
    """

    name: str
    unit: Unit
    rest: float
    limit: float
    first: float | None
    last: float | None

    @property
    def at_rest(self) -> bool:
        """Whether the last value is within the limit; an unreadable quantity is not at rest."""
        return self.last is not None and self.last <= self.limit

    @property
    def description(self) -> str:
        """Text such as `cpu utilization 97 % (rest 2, limit 12)`."""
        unit = {"pct": "%", "C": "°C"}.get(self.unit, self.unit)
        last = "unreadable" if self.last is None else f"{self.last:.3g} {unit}"
        return f"{self.name} {last} (rest {self.rest:.3g}, limit {self.limit:.3g})"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GateReport:
    """The wait before a trial (`gate.py`).

    Attributes:
        pause_s: the fixed time, `study.gate.pause_s`.
        waited_s: the time after it spent watching the machine.
        at_most_s: its cap, `study.gate.at_most_s`.
        quantities: the watched quantities; empty if none were watched.
    """

    pause_s: float
    waited_s: float
    at_most_s: float
    quantities: tuple[GateQuantity, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SamplerReport:
    """The sampling process's report about itself.

    Attributes:
        period_s: the shortest period at which it reads a source of energy.
        cpu_s: processor seconds it used between its first and last reading of this trial.
        wall_s: seconds between them.
        largest_pause_s: the largest delay of a reading: time in which the process was stopped,
            starved, or waiting for a meter.
        cpus: the processors that it may use.
        finished: it stopped on request; False if it died or hung.
        notes: sources that it could not open, with the reason, one line each.
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
    """One request and its completion.

    Attributes:
        task_id: the prompt of the workload.
        pass_index: the workload is repeated whole inside the serve window; 0 is the first pass.
        batch_index: requests with equal (pass_index, batch_index) were served together.
        prompt_digest: hash of the prompt's token ids (`workload.token_digest`).
        input_tokens: prompt length in tokens, without padding.
        output_ids: generated token ids, without padding. The one that ended the request counts: an
            end-of-text token, or with `workload.stop=code` the one that completed a stop text.
        start_ns: when the request was passed to the engine.
        token_ns: (len(output_ids),) when the caller received each token.
        stop: what ended it: `length`, `eos` or `code`.
        text: the decoded output, up to the stop text where `stop` is `code`; kept for the first
            pass, None afterwards.
        due_ns: under load: when the request was scheduled, or its client was free; else None.
        ended: under load: how it ended. An aborted request has the tokens that had come by then,
            one that was refused or failed has none.
        ended_ns: under load: when it did: with its last token, or when the client knew.
        decode_ns: from its first to its last token, as a server timed it; None if none did.
    """

    task_id: str
    pass_index: int
    batch_index: int
    prompt_digest: str
    input_tokens: int
    output_ids: tuple[int, ...]
    start_ns: int
    token_ns: tuple[int, ...]
    stop: Literal["length", "eos", "code"]
    text: str | None = None
    due_ns: int | None = None
    ended: Ended = "complete"
    ended_ns: int | None = None
    decode_ns: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceAnswer:
    """The reference engine's completion of one prompt.

    Attributes:
        task_id: the prompt of the workload.
        prompt_digest: hash of the prompt's token ids (`workload.token_digest`).
        output_ids: generated token ids.
    """

    task_id: str
    prompt_digest: str
    output_ids: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """The reference engine's completions of the same prompts, generated one at a time.

    Attributes:
        engine: its name.
        dtype: the type of its computations.
        provider: the provider that it ran on.
        answers: one per prompt; empty if there are none.
        error: why there are none.
    """

    engine: str
    dtype: str
    provider: str
    answers: tuple[ReferenceAnswer, ...] = ()
    error: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadReport:
    """What the client of a load says of itself.

    Attributes:
        steady: the throughput was steady when the serve window began; False if the ramp ended at
            its cap.
        client_cpu_s: processor time of the client's process within the serve window; None if the
            engine computes in it.
        queue_mean_s: mean time in the server's own queue, of the requests that left it within the
            serve window; None if the server does not report it.
        reasons: the most frequent reasons of requests that were refused or failed, with their
            numbers.
        reader_late_p99_s: 99th percentile of the time by which a timer in the client's loop was
            late within the serve window, and so was what it read; None in older captures.
    """

    steady: bool
    client_cpu_s: float | None
    queue_mean_s: float | None = None
    reader_late_p99_s: float | None = None
    reasons: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Capture:
    """The raw facts of a trial; everything else is derived from it.

    Attributes:
        windows: in order of time; names are unique.
        generations: every request served in the serve window; under load all that were sent, also
            before and after it.
        effective: settings read back from the running engine, dotted keys (`provider`, `dtype`,
            `threads`, `kv_cache`, `attention`, ...).
        environment: versions, processor, kernel, device names.
        clock: ties monotonic to wall-clock time.
        warmup: None if there was none.
        series: readings of every source; filled in by the parent from the sampler's file.
        sampler: the sampler's own report; None if measurement is off.
        reference: completions to compare the outputs with; filled in by the parent; None if nothing
            is compared.
        gate: the wait before the trial; filled in by the parent; None if there was none.
        parent_clocks: the parent's clocks as the trial began, and after its worker had ended; empty
            if unknown.
        load: the client's report where requests came from a load; None for batches.
        busiest: foreign processes that used most processor time while the worker ran, and how much,
            as text; filled in by the parent; empty if none is known.
    """

    windows: tuple[Window, ...]
    generations: Sequence[Generation]
    effective: dict[str, Json]
    environment: dict[str, Json]
    clock: ClockAnchor
    warmup: WarmUp | None = None
    series: tuple[Series, ...] = ()
    sampler: SamplerReport | None = None
    reference: Reference | None = None
    gate: GateReport | None = None
    parent_clocks: tuple[ClockAnchor, ...] = ()
    busiest: tuple[str, ...] = ()
    load: LoadReport | None = None

    def window(self, name: str) -> Window | None:
        """Return the window of that name, or None."""
        return next((w for w in self.windows if w.name == name), None)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EnergyFigure:
    """Joules of one source over one window.

    Attributes:
        source_id: id of the source.
        domain: what it covers.
        kind: counter, power or estimate.
        window: the window's name.
        joules: the best figure; None if it cannot be known, with `reasons`.
        low_j: lower end of the interval.
        high_j: upper end of the interval.
        summed: part of the disjoint cut that makes the total.
        reasons: why there is no figure.
        flags: caveats about a figure that is still valid.
        pedigree: readings used, wraps, gaps, coverage, update period, device, path.
        low_with_gain_j: lower end of the interval that also covers the sensor's gain error; for
            absolute figures and between machines. None if it is unknown.
        high_with_gain_j: upper end.
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
    low_with_gain_j: float | None = None
    high_with_gain_j: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """The verdict of one named expectation about a trial.

    Attributes:
        name: the expectation.
        passed: False makes the trial invalid; None means that it does not apply.
        detail: one line with the figures.
        flagged: passed, but the detail is a caveat for readers of the numbers.
    """

    name: str
    passed: bool | None
    detail: str
    flagged: bool = False


Verdict = Literal["passed", "failed assertion", "exception", "syntax error", "timeout", "refused"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TaskScore:
    """Whether one answer of the first pass works.

    Attributes:
        task_id: the prompt of the workload.
        verdict: `passed`; `refused` if the task cannot be scored here; else how it failed.
        why: the first line of the reason; empty for a pass.
        time_share: share of this task in the time that the serve window spent on requests, over all
            passes (`derive/solved.py`); its energy is attributed to tasks by it. None if unknown.
    """

    task_id: str
    verdict: Verdict
    why: str = ""
    time_share: float | None = None

    @property
    def solved(self) -> bool:
        """Whether the answer passed all tests."""
        return self.verdict == "passed"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a trial ended. `valid` has no reasons; the other three do.

    Attributes:
        name: in one word.
        reasons: one line each.
        permanent: a failure that another try would repeat (`SlmEnergyError.permanent`).
    """

    name: OutcomeName
    reasons: tuple[str, ...] = ()
    permanent: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """All stored data of a trial: the request, the raw facts, and what is derived from them.

    Attributes:
        trial: the request.
        outcome: how it ended.
        capture: the raw facts; None if the worker produced none.
        energy: joules per source and window.
        metrics: name to value, as shown in MLflow; no NaN, no infinity, no 0 for an unknown value.
        checks: the expectations and their verdicts.
        started_unix_ns: date at which the parent started the trial.
        ended_unix_ns: date at which the outcome was known. Dates are for readers: the wall clock
            can be set between two of them.
        phases_s: wall seconds the parent spent per phase (`prepare`, `gate`, `worker`, `derive`).
        node: host name of the node if it ran as a cluster job; else empty.
        job: that job's id; else empty.
        node_kind: that node's model, processors and GPUs (`machine.machine_kind`); else empty.
        restarts: how often Slurm had requeued that job.
        ended_by: what ended that job through no fault of the trial, which does not count as an
            attempt then: a state of Slurm's, such as `PREEMPTED`, or a signal; else empty.
        scores: whether the answers work, for tasks with tests.
        scoring: version of the scoring; 0 where there are no scores.
        tests: digest of the tests that the scores are by (`score.tests_digest`); empty where there
            are no scores, or unknown.
        scored_in: where the answers were tested, such as `bubblewrap 0.8.0, Python 3.11.7`, or
            `none, Python 3.11.7` without a sandbox; empty where there are no scores, or unknown.
        unscored: why there are no scores, or not of all tasks; empty where the tasks have no tests.
        duration_s: time from the start to the outcome on the monotonic clock; None if unknown: a
            job that left no record, or an older record.
        code: digest of this package's code in the process that ran the trial, and in its worker and
            sampler (`source_code.py`); empty if unknown, and where nothing ran.
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
    node_kind: str = ""
    restarts: int = 0
    ended_by: str = ""
    scores: tuple[TaskScore, ...] = ()
    scoring: int = 0
    tests: str = ""
    scored_in: str = ""
    unscored: str = ""
    duration_s: float | None = None
    code: str = ""
    schema: int = SCHEMA
