"""What the worker's windows, requests and energy sources become: entries that are not gauges."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from slm_energy.metric_catalog.definition import (
    DEVICES,
    ESTIMATED,
    SUMS,
    Better,
    MetricDefinition,
    bounds,
    bounds_with_gain,
)

_DEVICE_ENERGY = "device energy", "Energy of the metered devices"
_BY_DOMAIN: list[tuple[str, str, str, Better]] = [
    (
        "{domain}",
        "{domain} energy",
        "Energy of the serve window in domain {domain}, all its devices together.",
        "neither",
    ),
    (
        "{window}_{domain}",
        "{window} {domain} energy",
        "Energy of the {window} window in domain {domain}, or in total.",
        "neither",
    ),
]
_BY_WINDOW: list[tuple[str, str, str, Better]] = [
    (
        "{window}_sum",
        "{window} device energy",
        "Energy of the metered devices in the {window} window.",
        "neither",
    )
]


def energy(group: str) -> Iterator[MetricDefinition]:
    """All joules of a group, `MEASURED`, `DEVICES` or `ESTIMATED`, each followed by its bounds."""
    name, single = SUMS[group], group != DEVICES
    energy, joules = ("energy", "Total energy") if single else _DEVICE_ENERGY
    entries: list[tuple[str, str, str, Better]] = [
        (
            "per_output_token",
            f"{energy} per output token",
            f"{joules} of the serve window over the output tokens.",
            "lower",
        ),
        (
            "per_request",
            f"{energy} per request",
            f"{joules} of the serve window over the requests.",
            "lower",
        ),
        (
            "per_solved",
            f"{energy} per solved task",
            f"{joules} of the serve window, of all attempts, over the attempts that passed their"
            " task's tests. Absent where none did, or a task could not be scored.",
            "lower",
        ),
        (
            "per_good_request",
            f"{energy} per good request",
            f"{joules} of the serve window over the complete requests that kept load.slo.",
            "lower",
        ),
        (
            "aborted",
            f"{energy} of aborted requests",
            f"{joules} of the serve window by the share of aborted requests in its time.",
            "neither",
        ),
        (
            "prefill_per_request",
            f"prefill {energy} per request",
            f"{joules} of the prefill window over the requests that were prefilled in it.",
            "lower",
        ),
        (
            "decode_per_output_token",
            f"decoding {energy} per output token",
            f"Energy of each token after an answer's first: (serve {name} - prefill {name} x serve"
            " passes / prefill passes) / (output tokens - requests).",
            "lower",
        ),
        (
            name,
            f"{name} energy of all passes" if single else f"{energy} of all passes",
            "Energy of the serve window: the sum over the devices that the tag slm.measured names,"
            " or the estimate. Passes vary, so compare it per token or request.",
            "neither",
        ),
        (
            f"net_{name}",
            f"net {name} energy of all passes" if single else f"net {energy} of all passes",
            f"{joules} of the serve window less the baseline's power over the same time. The"
            " interval covers the baseline's unsteadiness; it is absent where the baseline is too"
            " short to know that.",
            "neither",
        ),
    ]
    entries += _BY_DOMAIN if single else _BY_WINDOW
    origin = "the estimating source" if group == ESTIMATED else "energy sources"
    for quantity, title, meaning, better in entries:
        definition = MetricDefinition(
            name=f"{group}/{quantity}_j",
            title=title,
            meaning=meaning,
            origin=f"sampler: {origin}, over the worker's windows",
            better=better,
        )
        yield definition
        for name, end in zip(bounds(definition.name), ("lower", "upper"), strict=True):
            yield dataclasses.replace(
                definition,
                name=name,
                title=f"{title}, {end} bound",
                meaning=f"The {end} end of the measurement's own interval.",
                better="neither",
                bound=True,
            )
        if group == ESTIMATED:
            continue  # a model has no sensor
        for name, end in zip(bounds_with_gain(definition.name), ("lower", "upper"), strict=True):
            yield dataclasses.replace(
                definition,
                name=name,
                title=f"{title}, {end} bound with sensor gain",
                meaning=f"The {end} end of the interval that also covers the sensors' gain.",
                better="neither",
                bound=True,
            )


def latency() -> Iterator[MetricDefinition]:
    """Mean, median and 95th percentile of the four times."""
    times = {
        "ttft": ("TTFT", "the time from handing a request over to its first token"),
        "itl": ("ITL", "the time between two successive tokens of a request"),
        "tpot": (
            "TPOT",
            "a request's time per token after the first: (E2E - TTFT) / (tokens - 1), by the"
            " server's own times of both tokens where it tells them",
        ),
        "e2e": ("end-to-end latency", "the time from handing a request over to its last token"),
    }
    statistics = {
        "mean": ("mean {}", "Mean of"),
        "p50": ("{} p50", "Median of"),
        "p95": ("{} p95", "95th percentile of"),
        "p99": ("{} p99", "99th percentile, of at least 100 values, of"),
    }
    for key, (title, quantity) in times.items():
        for statistic, (titled, what) in statistics.items():
            yield MetricDefinition(
                name=f"latency/{key}_{statistic}_s",
                title=titled.format(title),
                meaning=f"{what} {quantity}.",
                origin="worker: time stamps of tokens",
                better="lower",
            )


_LOAD: list[tuple[str, str, str, Better]] = [
    (
        "offered_per_s",
        "offered requests/s",
        "Requests due in the serve window, per second.",
        "neither",
    ),
    (
        "delivered_per_s",
        "delivered requests/s",
        "Complete requests, each by the share of its tokens within the serve window, per second.",
        "higher",
    ),
    (
        "goodput_per_s",
        "good requests/s",
        "The same of requests that kept load.slo; absent without one.",
        "higher",
    ),
    ("good_share", "good requests", "Share of the requests due that kept load.slo.", "higher"),
    (
        "in_flight_mean_count",
        "requests in flight",
        "Mean number of requests that were due and not yet answered.",
        "neither",
    ),
    (
        "aborted_count",
        "aborted requests",
        "Due in the window and given up by the client.",
        "neither",
    ),
    (
        "refused_count",
        "refused requests",
        "Answered with an HTTP error, such as 429 or 503.",
        "lower",
    ),
    ("failed_count", "failed requests", "Cut, malformed, or without an end in time.", "lower"),
    (
        "saturated",
        "saturated",
        "1 where the queue of an open loop grew through the window: latencies then depend on how"
        " long it was.",
        "neither",
    ),
    (
        "queue_mean_s",
        "mean time in the server's queue",
        "As the server reports it, of the requests that left the queue in the serve window; vLLM"
        " does.",
        "lower",
    ),
    (
        "client_late_p99_s",
        "lateness of the client p99",
        "99th percentile of the time between a request's due time and its sending.",
        "neither",
    ),
    (
        "reader_late_p99_s",
        "lateness of the reader p99",
        "99th percentile of the time by which a timer beside the reading of answers was late, and"
        " so were the stamps of tokens that came meanwhile.",
        "neither",
    ),
    (
        "client_cpu_pct",
        "processor time of the client",
        "Of the process that sends and reads, in the serve window, in percent of one processor.",
        "neither",
    ),
    *(
        (
            f"idle_{group}_share",
            "idle share of {}".format("estimated energy" if group == ESTIMATED else "energy"),
            "Power of the baseline over that of the serve window.",
            "lower",
        )
        for group in SUMS
    ),
]

OTHERS = (
    *(
        MetricDefinition(
            name=f"load/{name}",
            title=title,
            meaning=meaning,
            origin="worker: requests under load",
            better=better,
        )
        for name, title, meaning, better in _LOAD
    ),
    MetricDefinition(
        name="throughput/output_tokens_per_s",
        title="output tokens/s",
        meaning="Output tokens over the length of the serve window.",
        origin="worker: serve window",
        better="higher",
    ),
    MetricDefinition(
        name="throughput/requests_per_s",
        title="requests/s",
        meaning="Requests over the length of the serve window.",
        origin="worker: serve window",
        better="higher",
    ),
    MetricDefinition(
        name="tokens/input",
        title="input tokens",
        meaning="Prompt tokens of all requests, without padding.",
        origin="worker: requests",
    ),
    MetricDefinition(
        name="tokens/output",
        title="output tokens",
        meaning="Generated tokens of all requests, without padding.",
        origin="worker: requests",
    ),
    MetricDefinition(
        name="tokens/requests",
        title="requests",
        meaning="Requests served in the serve window.",
        origin="worker: requests",
    ),
    MetricDefinition(
        name="tokens/passes",
        title="passes",
        meaning="How often the whole workload was served in the serve window.",
        origin="worker: requests",
    ),
    MetricDefinition(
        name="time/{window}_s",
        title="{window} time",
        meaning="Length of the window.",
        origin="worker: windows",
    ),
    MetricDefinition(
        name="utilization/quota_throttled_pct",
        title="periods throttled by a CPU quota",
        meaning="Periods of the serve window in which threads had used up the quota of a control"
        " group and waited, in percent; of its group and those above it, the one with the largest"
        " share; absent without a quota.",
        origin="worker: windows, from cpu.stat of the control group",
        better="lower",
    ),
    MetricDefinition(
        name="time/trial_s",
        title="trial time",
        meaning="From the start of the trial to its record, also of a failed one.",
        origin="sweep: monotonic clock",
    ),
    MetricDefinition(
        name="time/outside_windows_s",
        title="time outside the windows",
        meaning="Trial time less the lengths of all windows.",
        origin="sweep: monotonic clock",
    ),
    MetricDefinition(
        name="time/phase_{phase}_s",
        title="{phase} phase time",
        meaning="What the sweep spent in one phase of the trial; the windows are in phase worker.",
        origin="sweep: monotonic clock",
    ),
    MetricDefinition(
        name="model/bits_per_weight",
        title="bits per weight",
        meaning="Bits that the engine stores per weight, with scales and zero points, over all of"
        " its tensors; a matrix that it stores twice counts twice.",
        origin="engine: the tensors that it loaded",
    ),
    MetricDefinition(
        name="model/weights_mb",
        title="size of the weights",
        meaning="Bytes of the weights as the engine stores them.",
        origin="engine: the tensors that it loaded",
        better="lower",
    ),
    MetricDefinition(
        name="quality/agreement",
        title="agreement with the reference engine",
        meaning="Share of prompts answered with the reference engine's tokens.",
        origin="worker: tokens of the first pass, and the reference",
        better="higher",
    ),
    MetricDefinition(
        name="quality/agreeing_tokens",
        title="tokens before the first that is not the reference engine's",
        meaning="Mean over prompts of the share of tokens before the first difference.",
        origin="worker: tokens of the first pass, and the reference",
        better="higher",
    ),
    MetricDefinition(
        name="quality/pass_at_1",
        title="pass rate",
        meaning="Share of the scored tasks whose answer passed all tests.",
        origin="scoring: answers of the first pass",
        better="higher",
    ),
    MetricDefinition(
        name="quality/solved_count",
        title="solved tasks",
        meaning="Tasks whose answer passed all tests.",
        origin="scoring: answers of the first pass",
        better="higher",
    ),
    MetricDefinition(
        name="quality/scored_count",
        title="scored tasks",
        meaning="Tasks that have tests and could be scored.",
        origin="scoring: answers of the first pass",
    ),
    MetricDefinition(
        name="warmup/batches",
        title="warm-up batches",
        meaning="Batches served before the measurement.",
        origin="worker: warm-up",
    ),
    MetricDefinition(
        name="warmup/steady",
        title="steady after warm-up",
        meaning="1 where decoding reached a steady pace, 0 where a limit ended the warm-up.",
        origin="worker: warm-up",
    ),
    MetricDefinition(
        name="sampler/cpu_pct",
        title="sampler CPU use",
        meaning="Processor time of the sampling process over wall time; 100 is one core.",
        origin="sampler: its own report",
        better="lower",
    ),
    MetricDefinition(
        name="sampler/largest_pause_s",
        title="largest pause of the sampler",
        meaning="By how much the latest of its readings was late.",
        origin="sampler: its own report",
        better="lower",
    ),
    MetricDefinition(
        name="crosscheck/{pair}_ratio",
        title="{pair} ratio",
        meaning="Serve energy of the first over the second: 1 where both are of one device, at most"
        " 1 where the second contains the first.",
        origin="energy sources: serve window",
    ),
    MetricDefinition(
        name="system/{source}",
        title="{source} over time",
        meaning="Readings of a gauge over the whole trial, evenly thinned.",
        origin="sampler: gauge {source}",
    ),
)
