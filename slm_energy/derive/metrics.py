"""Capture to named numbers: the only place where units meet names. Pure.

    energy_figures   joules per source and window, with intervals
    derive           {"group/quantity_unit": value}; what is unknown is absent, never 0

What each name means is in `metric_catalog/`; `derive` gives no name that is not listed there.

Latency follows the LLM serving field. For a request handed over at s whose n tokens are known at
t1 .. tn: TTFT = t1 - s; ITL = each t(i+1) - t(i); end-to-end latency E2E = tn - s;
TPOT = (E2E - TTFT) / (n - 1), or by the server's own times of the first and the last token.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from array import array
from collections.abc import Iterable, Sequence
from statistics import fmean

import numpy as np

from slm_energy.config.groups import LoadConfig, MeasurementConfig
from slm_energy.derive import load as loads
from slm_energy.derive import quality, stamps
from slm_energy.derive.energy import accounting
from slm_energy.derive.energy.crosscheck import crosschecks
from slm_energy.derive.energy.steadiness import unsteadiness_j
from slm_energy.derive.interval import Interval
from slm_energy.metric_catalog import gauges
from slm_energy.metric_catalog.catalog import listed
from slm_energy.metric_catalog.definition import DEVICES, ESTIMATED, MEASURED, SUMS, energy_name
from slm_energy.record import Capture, EnergyFigure, Generation, Series, Window
from slm_energy.scope import lacking

_BATCHES = LoadConfig()
_FEWEST_FOR_P99 = 100
"""Of fewer values the 99th percentile is the largest."""


def energy_figures(capture: Capture, measurement: MeasurementConfig) -> tuple[EnergyFigure, ...]:
    """Joules of every energy source over every window, and the totals.

    The measured total sums the disjoint cut; the estimated total is the one estimate there is. No
    measured sum is made of sources that do not contain what the trial computed on.
    """
    provider = str(capture.effective.get("provider"))
    max_gap_ns = round(measurement.max_gap_s * 1e9)
    figures: list[EnergyFigure] = []
    for window in capture.windows:
        each = [
            accounting.account(series, window, max_gap_ns=max_gap_ns)
            for series in capture.series
            if series.source.kind != "gauge"
        ]
        figures += each
        totals = _totals(each, provider, capture)
        if window.name == "baseline":
            totals = [_with_unsteadiness(one, capture, window, max_gap_ns) for one in totals]
        figures += totals
    return tuple(figures)


def _totals(figures: Sequence[EnergyFigure], provider: str, capture: Capture) -> list[EnergyFigure]:
    """The sum over the disjoint cut, if it is one of this provider, and the estimate."""
    measured = accounting.total(figures)
    domains = {figure.domain for figure in figures if figure.summed}
    incomplete = lacking(domains, provider, capture.effective)
    totals = [] if measured is None or incomplete else [measured]
    estimates = [figure for figure in figures if figure.kind == "estimate"]
    if len(estimates) == 1:
        totals.append(dataclasses.replace(estimates[0], source_id="total", domain="total"))
    return totals


def _with_unsteadiness(
    total: EnergyFigure, capture: Capture, baseline: Window, max_gap_ns: int
) -> EnergyFigure:
    """Add to the pedigree how far the long run may be from this baseline."""
    parts = [
        series
        for series in capture.series
        if (series.source.kind == "estimate" if total.kind == "estimate" else series.source.summed)
    ]
    found = unsteadiness_j(parts, baseline, max_gap_ns=max_gap_ns)
    below_j, above_j = found or (None, None)
    more = {"unsteadiness_below_j": below_j, "unsteadiness_above_j": above_j}
    return dataclasses.replace(total, pedigree=total.pedigree | more)


def derive(
    capture: Capture, energy: Sequence[EnergyFigure], load: LoadConfig = _BATCHES
) -> dict[str, float]:
    """All metrics of a trial.

    Args:
        capture: its raw facts.
        energy: from `energy_figures`.
        load: how requests came.

    Raises:
        ValueError: one of them is missing from the list of metrics.
    """
    values = _times(capture) | _warm_up(capture) | _sampler(capture) | _weights(capture)
    serve = capture.window("serve")
    if capture.load is None:
        values |= _tokens(capture.generations)
    if serve is not None and capture.generations and capture.load is None:
        counts = _tokens(capture.generations)
        values |= _latency(capture, capture.generations)
        values |= _throughput(capture.generations, serve)
        tokens, requests = counts["tokens/output"], counts["tokens/requests"]
        values |= _serving(capture, serve, energy, tokens, requests)
    elif serve is not None and capture.generations:
        counted = loads.count(capture.generations, serve, load)
        values |= _latency(capture, _since_due(counted.due)) | {
            "tokens/output": float(counted.tokens),
            "tokens/requests": counted.requests,
            "throughput/output_tokens_per_s": counted.tokens / serve.duration_s,
            "throughput/requests_per_s": counted.requests / serve.duration_s,
        }
        values |= loads.metrics(capture, serve, load, counted)
        values |= _serving(capture, serve, energy, counted.tokens, counted.requests)
        values |= loads.energy(capture, serve, counted, values)
    return listed({name: value for name, value in values.items() if math.isfinite(value)})


def _since_due(requests: Iterable[Generation]) -> list[Generation]:
    """The complete requests, as if they had been sent when they were due."""
    return [
        each if each.due_ns is None else dataclasses.replace(each, start_ns=each.due_ns)
        for each in requests
        if each.ended == "complete"
    ]


def _serving(
    capture: Capture,
    serve: Window,
    energy: Sequence[EnergyFigure],
    tokens: float,
    requests: float,
) -> dict[str, float]:
    values = quality.metrics(quality.agreements(capture))
    for group, figures in _by_group(energy).items():
        values |= _energy(group, figures, tokens, requests)
        values |= _net(group, figures, capture)
        values |= _phases(group, figures, capture, tokens, requests)
    quota = serve.withheld.worst
    if quota is not None and quota.throttled_pct is not None:
        values["utilization/quota_throttled_pct"] = quota.throttled_pct
    return values | _crosschecks(energy) | _gauges(capture, serve)


def _times(capture: Capture) -> dict[str, float]:
    return {f"time/{window.name}_s": window.duration_s for window in capture.windows}


def _weights(capture: Capture) -> dict[str, float]:
    """What the engine says of its weights (`engines.precision`), if it does."""
    weights = capture.effective.get("weights")
    if not isinstance(weights, dict):
        return {}
    found = (
        ("model/bits_per_weight", weights.get("bits_per_weight"), 1.0),
        ("model/weights_mb", weights.get("bytes"), 1e-6),
    )
    return {name: value * scale for name, value, scale in found if isinstance(value, int | float)}


def _tokens(generations: Sequence[Generation]) -> dict[str, float]:
    return {
        "tokens/input": float(sum(g.input_tokens for g in generations)),
        "tokens/output": float(sum(len(g.output_ids) for g in generations)),
        "tokens/requests": float(len(generations)),
        "tokens/passes": float(len({g.pass_index for g in generations})),
    }


def _latency(capture: Capture, generations: Iterable[Generation]) -> dict[str, float]:
    """Percentiles of the times of requests.

    Where stamps of tokens are unreliable (`stamps`) there are no times between tokens but a
    server's own, and no TTFT unless the reader is known to have kept up (`load.client_kept_up`).
    """
    good = stamps.reliable(capture)[0] is not False
    ttft, itl, tpot, e2e = array("d"), array("d"), array("d"), array("d")
    for g in generations:
        if not g.token_ns:
            continue  # the checks tell of it
        if good or capture.load is not None:
            ttft.append((g.token_ns[0] - g.start_ns) / 1e9)
        e2e.append((g.token_ns[-1] - g.start_ns) / 1e9)
        if good:
            itl.extend((b - a) / 1e9 for a, b in itertools.pairwise(g.token_ns))
        if len(g.token_ns) > 1 and (good or g.decode_ns is not None):
            decode_ns = g.token_ns[-1] - g.token_ns[0] if g.decode_ns is None else g.decode_ns
            tpot.append(decode_ns / 1e9 / (len(g.token_ns) - 1))
    values: dict[str, float] = {}
    for name, data in (("ttft", ttft), ("itl", itl), ("tpot", tpot), ("e2e", e2e)):
        if data:
            ordered = array("d", np.sort(data).tobytes())
            values[f"latency/{name}_mean_s"] = fmean(ordered)
            values[f"latency/{name}_p50_s"] = quantile(ordered, 0.50)
            values[f"latency/{name}_p95_s"] = quantile(ordered, 0.95)
            if len(ordered) >= _FEWEST_FOR_P99:
                values[f"latency/{name}_p99_s"] = quantile(ordered, 0.99)
    return values


def quantile(ordered: Sequence[float], share: float) -> float:
    """Quantile of sorted data by linear interpolation (type 7 of Hyndman and Fan, 1996)."""
    position = (len(ordered) - 1) * share
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def _throughput(generations: Sequence[Generation], serve: Window) -> dict[str, float]:
    tokens = sum(len(g.output_ids) for g in generations)
    return {
        "throughput/output_tokens_per_s": tokens / serve.duration_s,
        "throughput/requests_per_s": len(generations) / serve.duration_s,
    }


def _by_group(energy: Iterable[EnergyFigure]) -> dict[str, list[EnergyFigure]]:
    """Measured energy with and without processors, and estimates, have names of their own."""
    groups: dict[str, list[EnergyFigure]] = {}
    for figure in energy:
        group = DEVICES if figure.domain == SUMS[DEVICES] else MEASURED
        group = ESTIMATED if figure.kind == "estimate" else group
        groups.setdefault(group, []).append(figure)
    return groups


def _energy(
    group: str, figures: Iterable[EnergyFigure], tokens: float, requests: float
) -> dict[str, float]:
    values: dict[str, float] = {}
    for (window, domain), energy in _per_domain(figures).items():
        values |= energy.named(energy_name(group, window, domain))
        if window == "serve" and domain == SUMS[group]:
            for unit, count in (("per_output_token", tokens), ("per_request", requests)):
                if count:
                    values |= energy.per(count).named(f"{group}/{unit}_j")
    return values


def _per_domain(figures: Iterable[EnergyFigure]) -> dict[tuple[str, str], Interval]:
    """Sum figures of equal window and domain (two sockets, two GPUs); any unknown one voids it.

    A domain outside the disjoint cut counts only where a single source covers it.
    """
    found: dict[tuple[str, str], list[EnergyFigure]] = {}
    for figure in figures:
        found.setdefault((figure.window, figure.domain), []).append(figure)
    sums = {}
    for key, members in found.items():
        cut = [figure for figure in members if figure.summed] or members[: len(members) == 1]
        known = [each for each in map(Interval.of, cut) if each is not None]
        if cut and len(known) == len(cut):
            sums[key] = Interval.total(known)
    return sums


def _net(group: str, figures: Sequence[EnergyFigure], capture: Capture) -> dict[str, float]:
    """Serve energy less the baseline's power over the same time; both intervals are carried.

    Without a figure for the baseline's unsteadiness the interval is unknown.
    """
    serve, baseline = capture.window("serve"), capture.window("baseline")
    sums = _per_domain(figures)
    gross, idle = sums.get(("serve", SUMS[group])), sums.get(("baseline", SUMS[group]))
    if serve is None or baseline is None or gross is None or idle is None:
        return {}
    (total,) = [f for f in figures if (f.window, f.domain) == ("baseline", SUMS[group])]
    below_j, above_j = (total.pedigree.get(f"unsteadiness_{at}_j") for at in ("below", "above"))
    if isinstance(below_j, float) and isinstance(above_j, float):
        idle = idle.wider(below_j, above_j)
    else:
        idle = dataclasses.replace(idle, bounds=None, with_gain=None)
    ratio = serve.duration_s / baseline.duration_s
    return gross.less(idle, ratio).named(f"{group}/net_{SUMS[group]}_j")


def _phases(
    group: str, figures: Iterable[EnergyFigure], capture: Capture, tokens: float, requests: float
) -> dict[str, float]:
    """Prefill by its own window, decoding by what the serve window costs beyond it.

    Prefill gives each answer's first token, decoding the others.
    """
    serve, prefill = capture.window("serve"), capture.window("prefill")
    sums = _per_domain(figures)
    whole, first = sums.get(("serve", SUMS[group])), sums.get(("prefill", SUMS[group]))
    if serve is None or prefill is None or whole is None or first is None:
        return {}
    prefilled = requests / serve.passes * prefill.passes
    values = first.per(prefilled).named(f"{group}/prefill_per_request_j")
    decoded = tokens - requests
    if decoded > 0:
        rest = whole.less(first, serve.passes / prefill.passes).per(decoded)
        values |= rest.named(f"{group}/decode_per_output_token_j")
    return values


def _crosschecks(energy: Sequence[EnergyFigure]) -> dict[str, float]:
    checks = crosschecks([figure for figure in energy if figure.window == "serve"])
    return {f"crosscheck/{check.name}_ratio": check.ratio for check in checks}


def _warm_up(capture: Capture) -> dict[str, float]:
    if capture.warmup is None:
        return {}
    return {
        "warmup/batches": float(len(capture.warmup.paces_ns)),
        "warmup/steady": float(capture.warmup.steady),
    }


def _sampler(capture: Capture) -> dict[str, float]:
    """What metering itself took: part of one core, and the longest time by which it was late."""
    report = capture.sampler
    if report is None or report.cpu_s is None or not report.wall_s:
        return {}
    values = {"sampler/cpu_pct": 100 * report.cpu_s / report.wall_s}
    if report.largest_pause_s is not None:
        values["sampler/largest_pause_s"] = report.largest_pause_s
    return values


def _gauges(capture: Capture, serve: Window) -> dict[str, float]:
    values: dict[str, float] = {}
    ids = [series.source.id for series in capture.series]
    for series in capture.series:
        if series.source.kind != "gauge":
            continue
        stem, unit = gauges.stem_and_unit(series.source.id, ids)
        if series.source.unit == "C":
            values |= _first(f"{stem}_start_{unit}", series)
        summary = accounting.summarise(series, serve)
        if summary is not None:
            values[f"{stem}_mean_{unit}"] = summary.mean
            values[f"{stem}_peak_{unit}"] = summary.maximum
    return values


def _first(name: str, series: Series) -> dict[str, float]:
    """The first reading of all: how warm a trial began."""
    known = [float(raw) for raw in series.raw if raw is not None]
    return {name: known[0]} if known else {}
