"""What requests cost and took that came while others were served. Pure.

The serve window cuts through requests. What counts

    work       the tokens that came within the window, of whatever request
    requests   each complete one by the share of its tokens that came within the window
    latency    the requests that were due within the window, followed to their end

In a steady load the expected work and number of requests in the window are rate x length: what a
request that began before it has done already, one that ends after it makes up for. Latency counts
from the due time, so that a request that had to wait for the client has waited.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from slm_energy.cell import Trial
from slm_energy.config.groups import LoadConfig, SloConfig
from slm_energy.derive.solved import time_shares
from slm_energy.metric_catalog.definition import SUMS, bounds, bounds_with_gain
from slm_energy.record import Capture, Generation, Window

_BEHIND = 0.05
_SIGMAS = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """The requests of a load as the serve window counts them.

    Attributes:
        due: due within the window, in order.
        tokens: that came within the window.
        requests: complete requests, by the share of their tokens within the window.
        good: the same of those that kept `load.slo`.
        in_flight: mean number of requests in progress, from their due time on.
        backlog: how many were in progress at the start and at the end of the window.
    """

    due: tuple[Generation, ...]
    tokens: int
    requests: float
    good: float
    in_flight: float
    backlog: tuple[int, int]


def is_good(request: Generation, slo: SloConfig) -> bool:
    """Whether a request is complete and kept every promise."""
    if request.ended != "complete" or not request.token_ns or request.due_ns is None:
        return False
    first_s = (request.token_ns[0] - request.due_ns) / 1e9
    last_s = (request.token_ns[-1] - request.due_ns) / 1e9
    between = max(1, len(request.token_ns) - 1)
    decode_s = last_s - first_s if request.decode_ns is None else request.decode_ns / 1e9
    limits = (
        (slo.ttft_s, first_s),
        (slo.tpot_s, decode_s / between),
        (slo.e2e_s, last_s),
    )
    return all(limit is None or value <= limit for limit, value in limits)


def count(generations: Sequence[Generation], serve: Window, load: LoadConfig) -> Counted:
    """Count the requests of a load."""
    due, tokens, requests, good, in_flight_ns = list[Generation](), 0, 0.0, 0.0, 0
    before = after = 0
    for each in generations:
        due_ns = each.start_ns if each.due_ns is None else each.due_ns
        end_ns = each.start_ns if each.ended_ns is None else each.ended_ns
        inside = sum(serve.start_ns <= at_ns < serve.end_ns for at_ns in each.token_ns)
        tokens += inside
        in_flight_ns += max(0, min(end_ns, serve.end_ns) - max(due_ns, serve.start_ns))
        before += due_ns < serve.start_ns <= end_ns
        after += due_ns < serve.end_ns <= end_ns
        if serve.start_ns <= due_ns < serve.end_ns:
            due.append(each)
        if each.ended == "complete" and each.token_ns:
            share = inside / len(each.token_ns)
            requests += share
            good += share * is_good(each, load.slo)
    return Counted(
        due=tuple(due),
        tokens=tokens,
        requests=requests,
        good=good,
        in_flight=in_flight_ns / (serve.end_ns - serve.start_ns),
        backlog=(before, after),
    )


def metrics(
    capture: Capture, serve: Window, load: LoadConfig, counted: Counted
) -> dict[str, float]:
    """Rates, numbers and the client's own figures, without joules."""
    seconds, due = serve.duration_s, counted.due
    ends = {
        name: sum(each.ended == name for each in due) for name in ("aborted", "refused", "failed")
    }
    late_s = sorted((each.start_ns - each.due_ns) / 1e9 for each in due if each.due_ns is not None)
    values = {
        "load/offered_per_s": len(due) / seconds,
        "load/delivered_per_s": counted.requests / seconds,
        "load/in_flight_mean_count": counted.in_flight,
        "load/saturated": float(is_saturated(counted, load, seconds)),
        **{f"load/{name}_count": float(number) for name, number in ends.items()},
    }
    if load.slo != SloConfig():
        values["load/goodput_per_s"] = counted.good / seconds
        if due:
            good = sum(is_good(each, load.slo) for each in due)
            values["load/good_share"] = good / len(due)
    if late_s:
        values["load/client_late_p99_s"] = late_s[math.ceil(0.99 * len(late_s)) - 1]
    if capture.load is not None and capture.load.reader_late_p99_s is not None:
        values["load/reader_late_p99_s"] = capture.load.reader_late_p99_s
    if capture.load is not None and capture.load.client_cpu_s is not None:
        values["load/client_cpu_pct"] = 100 * capture.load.client_cpu_s / seconds
    if capture.load is not None and capture.load.queue_mean_s is not None:
        values["load/queue_mean_s"] = capture.load.queue_mean_s
    return values


def energy(
    capture: Capture, serve: Window, counted: Counted, values: Mapping[str, float]
) -> dict[str, float]:
    """Joules per good request, of aborted requests, and the share of an idle machine.

    Aborted requests are charged by their time in progress, which is divided equally among all that
    are (`solved.time_shares`).

    Args:
        capture: its generations and windows.
        serve: the window.
        counted: of its requests.
        values: the trial's other metrics.
    """
    result = {}
    aborted = _aborted_share(capture.generations, serve)
    baseline = capture.window("baseline")
    for group, total in SUMS.items():
        name = f"{group}/{total}_j"
        if name not in values:
            continue
        for each in (name, *bounds(name), *bounds_with_gain(name)):
            if each not in values:
                continue
            if counted.good:
                good = each.replace(f"/{total}", "/per_good_request")
                result[good] = values[each] / counted.good
            if aborted is not None:
                result[each.replace(f"/{total}", "/aborted")] = values[each] * aborted
        idle = values.get(f"{group}/baseline_{total}_j")
        if idle is not None and baseline is not None and values[name] > 0:
            at_rest = idle / baseline.duration_s * serve.duration_s
            result[f"load/idle_{group}_share"] = at_rest / values[name]
    return result


def _aborted_share(generations: Sequence[Generation], serve: Window) -> float | None:
    """Share of aborted requests in the time of the window; None where none were aborted."""
    if not any(each.ended == "aborted" for each in generations):
        return None
    clipped = []
    for each in generations:
        start_ns = max(each.start_ns, serve.start_ns)
        end_ns = min(each.start_ns if each.ended_ns is None else each.ended_ns, serve.end_ns)
        if start_ns < end_ns:
            clipped.append(
                dataclasses.replace(each, task_id=each.ended, start_ns=start_ns, token_ns=(end_ns,))
            )
    return time_shares(clipped).get("aborted", 0.0)


def is_saturated(counted: Counted, load: LoadConfig, seconds: float) -> bool:
    """Whether the queue of an open loop grew through the window.

    The server delivered more than 5 % less than was offered, and the backlog grew by more than
    two standard deviations of the arrivals in the window (Poisson: the root of their number).
    """
    if load.mode != "open" or not counted.due:
        return False
    before, after = counted.backlog
    behind = counted.requests < (1 - _BEHIND) * len(counted.due)
    return behind and after - before > _SIGMAS * math.sqrt(len(counted.due))


def enough_requests(trial: Trial, capture: Capture) -> tuple[bool | None, str]:
    """Check that the window has requests that were answered."""
    serve, load = capture.window("serve"), trial.cell.settings.load
    if serve is None:
        return False, "there is no serve window"
    counted = count(capture.generations, serve, load)
    complete = sum(each.ended == "complete" for each in counted.due)
    if not complete:
        reasons = capture.load.reasons if capture.load else ()
        why = f": {'; '.join(reasons)}" if reasons else ""
        return False, f"none of {len(counted.due)} requests of the window was answered{why}"
    return True, f"{complete} of {len(counted.due)} requests of the window were answered"


def client_kept_up(trial: Trial, capture: Capture) -> tuple[bool | None, str]:
    """Check that the client was not the bottleneck: its lateness, and its processor time."""
    serve, load = capture.window("serve"), trial.cell.settings.load
    if serve is None or capture.load is None:
        return None, "requests came batch by batch"
    values = metrics(capture, serve, load, count(capture.generations, serve, load))
    late_s, cpu_pct = values.get("load/client_late_p99_s"), values.get("load/client_cpu_pct")
    reader_s = values.get("load/reader_late_p99_s")
    if late_s is None:
        return None, "no request was due in the window"
    words = f"1 % of requests were sent {1e3 * late_s:.3g} ms late"
    if cpu_pct is None:
        return True, f"{words}; the engine computes in the client's process"
    words += "" if reader_s is None else f" and read {1e3 * reader_s:.3g} ms late"
    words += f", {cpu_pct:.0f} % of one processor"
    if max(late_s, reader_s or late_s) > load.late_s:
        return False, f"{words}; load.late_s={load.late_s:g} allows less"
    if cpu_pct > load.client_cpu_pct:
        return False, f"{words}; load.client_cpu_pct={load.client_cpu_pct:g} allows less"
    return True, words


def kept_up(trial: Trial, capture: Capture) -> tuple[bool | None, str]:
    """Flag a saturated server: latencies then depend on the length of the window."""
    serve, load = capture.window("serve"), trial.cell.settings.load
    if serve is None or capture.load is None:
        return None, "requests came batch by batch"
    counted = count(capture.generations, serve, load)
    offered, delivered = len(counted.due) / serve.duration_s, counted.requests / serve.duration_s
    words = f"{offered:.3g} requests/s offered, {delivered:.3g} delivered"
    if is_saturated(counted, load, serve.duration_s):
        before, after = counted.backlog
        return False, f"saturated: {words}, and the backlog grew from {before} to {after}"
    return True, words


def ramped_up(capture: Capture) -> tuple[bool | None, str]:
    """Flag a window that began before the throughput was steady."""
    if capture.load is None:
        return None, "requests came batch by batch"
    if capture.load.steady:
        return True, "the throughput was steady"
    return False, "load.ramp_s ended the ramp before the throughput was steady"
