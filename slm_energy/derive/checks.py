"""Named checks of a trial: each passes, fails or does not apply. Pure.

A failed check makes the trial invalid; its detail is the reason that is shown. Some only inform
the reader and leave the figures valid: they pass with a flag.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from slm_energy.cell import Trial
from slm_energy.derive import instrument_checks, load, placement, quality, stamps
from slm_energy.derive.energy.accounting import GaugeFigure, summarise
from slm_energy.derive.energy.crosscheck import crosschecks
from slm_energy.record import Capture, CheckResult, EnergyFigure, Generation
from slm_energy.scope import DEVICES_SUM, TOTAL, lacking, of_figures, refusal
from slm_energy.serialization import Json

_Verdict = tuple[bool | None, str]
_Check = Callable[[Trial, Capture, Sequence[EnergyFigure]], _Verdict]
_SUMS = (TOTAL, DEVICES_SUM)


def run(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> tuple[CheckResult, ...]:
    """Apply every check, in a fixed order."""
    results = []
    for name, check in _CHECKS.items():
        passed, detail = check(trial, capture, energy)
        results.append(CheckResult(name=name, passed=passed, detail=detail))
    for name, check in _FLAGS.items():
        passed, detail = check(trial, capture, energy)
        flagged = passed is False
        passed = True if flagged else passed
        results.append(CheckResult(name=name, passed=passed, detail=detail, flagged=flagged))
    return tuple(results)


def _settings_in_force(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    """Check what every engine reports; engines reject misplaced nodes and recompilation."""
    settings = trial.cell.settings
    wanted: dict[str, Json] = {
        "provider": settings.provider.name,
        "dtype": settings.engine.dtype,
        "decode": settings.engine.decode,
        "kv_cache": True,
        "isolation": settings.measurement.isolation,
    }
    threads = settings.engine.threads or capture.effective.get("threads_requested")
    if threads is not None:
        wanted["threads"] = threads
    if settings.model.attention != "auto":
        wanted["attention"] = settings.model.attention
    # Old captures, from before isolation was configurable, do not record it.
    found = capture.effective | {"isolation": capture.environment.get("isolation", "spawn")}
    for key, value in wanted.items():
        if found.get(key) != value:
            return False, f"{key} is {found.get(key)}, requested was {value}"
    return True, ", ".join(f"{key}={value}" for key, value in wanted.items())


def _versions(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    """Compare the packages that the worker loaded with those that the cell is named after."""
    loaded = capture.environment.get("versions")
    if not isinstance(loaded, dict):  # captures of other programs
        return None, "the worker reported no versions"
    for name, planned in trial.cell.versions.items():
        found = loaded.get(name, planned if name == "python" else "absent")
        if found != planned:
            return False, (
                f"{name} was {planned} when the sweep began and is now {found}: run it again, the"
                " changed package is another cell"
            )
    return True, f"{len(trial.cell.versions)} versions as planned"


def _as_planned(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    """Flag a study whose plan was changed: it holds several experiments, which can be separated."""
    if not trial.changed:
        return True, f"plan {trial.plan}"
    return False, f"since the study began: {'; '.join(trial.changed)}"


def _answered(capture: Capture) -> Sequence[Generation]:
    """The requests with an answer: under load some were aborted, refused, or have failed."""
    if capture.load is None:
        return capture.generations
    return [each for each in capture.generations if each.ended == "complete"]


def _whole_workload(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    if capture.load is not None:
        return load.enough_requests(trial, capture)
    first, count = list[str](), 0
    passes = itertools.groupby(capture.generations, key=lambda g: g.pass_index)
    for number, generations in passes:
        tasks = [g.task_id for g in generations]
        first, count = first or tasks, count + 1
        if tasks != first:
            return False, f"pass {number} served {len(tasks)} requests, the first {len(first)}"
    if not first:
        return False, "no request was served"
    return True, f"{len(first)} prompts, {count} times"


def _token_counts(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    workload = trial.cell.settings.workload
    if trial.cell.settings.load.trace is not None:
        return None, "load.trace says how many tokens each request asks for"
    for g in _answered(capture):
        count = len(g.output_ids)
        if len(g.token_ns) != count:
            return False, f"{g.task_id}: {count} tokens but {len(g.token_ns)} time stamps"
        if not 1 <= count <= workload.new_tokens:
            return False, f"{g.task_id}: {count} tokens, at most {workload.new_tokens} requested"
        if workload.stop == "fixed" and count != workload.new_tokens:
            return (
                False,
                f"{g.task_id}: {count} tokens, requested: {workload.new_tokens}",
            )
    return True, f"{workload.stop}, {workload.new_tokens} tokens requested per prompt"


def _time_stamps(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    serve = capture.window("serve")
    if serve is None:
        return False, "there is no serve window"
    for g in capture.generations:
        stamps = (serve.start_ns, g.start_ns, *g.token_ns, serve.end_ns)
        if capture.load is not None:  # requests cross the edges of the window
            stamps = (g.start_ns if g.due_ns is None else g.due_ns, g.start_ns, *g.token_ns)
        if any(later < earlier for earlier, later in itertools.pairwise(stamps)):
            return False, f"{g.task_id}: time stamps do not rise within the serve window"
    where = ", within the serve window" if capture.load is None else ""
    return True, f"tokens in order{where}"


def _all_weights_used(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    """Flag a model that serves a part of what its files hold: its config.json may be wrong."""
    unused = capture.effective.get("unused_weights")
    if not isinstance(unused, list):
        return None, "the engine does not report it"
    if not unused:
        return True, "all stored weights are used"
    return False, (
        f"{len(unused)} stored tensors have no place in the model that config.json describes, for"
        f" example {unused[0]}: check that it belongs to these weights"
    )


def _same_outputs(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    answered = _answered(capture)
    first = {g.task_id: g.output_ids for g in answered if g.pass_index == 0}
    if trial.cell.settings.load.trace is not None:
        return None, "load.trace asks for answers of several lengths"
    differing = list[str]()
    for g in answered:
        at = quality.first_difference(g.output_ids, first.get(g.task_id, ()))
        if at is not None:
            differing.append(
                f"{g.task_id}: pass {g.pass_index} differs from the first at token {at}"
            )
    if not differing:
        return True, "every pass generated the same tokens"
    config = trial.cell.settings.load
    if config.mode == "open" or (config.mode == "closed" and config.clients > 1):
        # A sum in another batch may be added in another order, and two near-equal tokens swap.
        return None, f"{len(differing)} of {len(answered)} answers, which others were batched with"
    return False, differing[0]


def _sampler_alive(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    if trial.cell.settings.measurement.mode == "off":
        return None, "measurement is off"
    if capture.sampler is None:
        return False, "the sampling process left nothing"
    if not capture.sampler.finished:
        return False, "the sampling process died or hung before the trial ended"
    return True, f"period {capture.sampler.period_s:g} s"


def _energy_known(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    mode = trial.cell.settings.measurement.mode
    if mode == "off":
        return None, "measurement is off"
    serve = [f for f in energy if f.window == "serve" and f.domain in _SUMS]
    scope, provider = of_figures(energy), trial.cell.settings.provider.name
    if scope is not None and scope.kind == "measured":
        device = lacking(scope.domains, provider, capture.effective)
        if device is not None:
            notes = capture.sampler.notes if capture.sampler else ()
            return False, refusal(scope, provider, device, notes)
    if not serve or scope is None:
        return False, "no source of energy was read"
    for figure in serve:
        if figure.joules is None:
            return False, f"serve window, {figure.source_id}: {'; '.join(figure.reasons)}"
        if figure.joules <= 0:
            return False, f"serve window, {figure.source_id}: {figure.joules} J cannot be"
    if mode == "strict" and all(f.kind == "estimate" for f in serve):
        return False, "measurement=strict, but there is only an estimate"
    kinds = ", ".join(f"{f.joules:.4g} J ({f.kind})" for f in serve)
    return True, f"{kinds}: {scope.words}"


def _requested_meter(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    """Check that a meter that was requested by name was there, also if it is not in the sum."""
    if trial.cell.settings.measurement.wall_meter is None:
        return None, "measurement.wall_meter is not set"
    series = [each for each in capture.series if each.source.domain == "wall"]
    if any(raw is not None for each in series for raw in each.raw):
        return True, "the meter at the wall was read"
    errors = [error for each in series for error in each.errors.values()]
    return False, f"measurement.wall_meter: {errors[0] if errors else 'it was not opened'}"


def _alone_on_gpu(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    limit = trial.cell.settings.measurement.limits.gpu_processes
    found = _gauges(capture, "_foreign_processes")
    if not found:
        return None, "no metered GPU reports its processes"
    for name, figure in found.items():
        if figure.maximum > limit:
            return False, (
                f"{name}: up to {figure.maximum:g} foreign processes;"
                f" measurement.limits.gpu_processes={limit}"
            )
    return True, f"at most {limit} foreign processes"


def _on_metered_device(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    settings = trial.cell.settings
    if settings.measurement.mode == "off":
        return None, "measurement is off"
    return placement.on_metered_device(settings.provider.name, capture)


def _same_governor(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    for figure in _gauges(capture, "cpu_governor_changes").values():
        if figure.maximum > figure.minimum:
            return False, "the processor's frequency governor or boost was changed while serving"
        return True, "frequency governor and boost as they were"
    return None, "this machine reports no frequency governor"


def _mean_within(gauge: str, key: str, unit: str, *, factor: float = 1.0) -> _Check:
    """The check that compares the mean of each gauge whose id ends with `gauge` with a limit."""

    def check(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
        limit = getattr(trial.cell.settings.measurement.limits, key)
        means = {name: each.mean * factor for name, each in _gauges(capture, gauge).items()}
        if not means:
            return None, f"this machine reports no {gauge.strip('_')}"
        for name, mean in means.items():
            if mean > limit:
                return False, (
                    f"{name} is {mean:.3g} {unit}; measurement.limits.{key}={limit:g} allows less"
                )
        return True, f"{max(means.values()):.3g} {unit}, at most {limit:g}"

    return check


def _alone_on_cpu(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    check = _mean_within("foreign_cpu_percentage", "foreign_cpu_pct", "% of the processors")
    passed, detail = check(trial, capture, energy)
    if passed is False and capture.busiest:
        detail += f"; busiest: {', '.join(capture.busiest)}: end them, or wait for them"
    elif passed is False:
        detail += "; slm-energy doctor names the processes that are busy now"
    return passed, detail


def _gauges(capture: Capture, ending: str) -> dict[str, GaugeFigure]:
    """Figures over the serve window of the gauges whose id ends with `ending`."""
    serve = capture.window("serve")
    if serve is None:
        return {}
    figures = {
        series.source.id: summarise(series, serve)
        for series in capture.series
        if series.source.kind == "gauge" and series.source.id.endswith(ending)
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _steady(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    if capture.warmup is None:
        return None, "there was no warm-up"
    count = len(capture.warmup.paces_ns)
    if capture.warmup.steady:
        return True, f"decoding had a steady pace after {count} batches"
    seconds = trial.cell.settings.measurement.warmup_s
    return False, (
        f"no steady pace after {count} batches: measurement.warmup_s={seconds:g} ended the warm-up"
    )


def _rested(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    gate = capture.gate
    if gate is None or not gate.quantities:
        return None, "the machine was not looked at before the trial"
    restless = [q.description for q in gate.quantities if not q.at_rest]
    if restless:
        return False, (
            f"not at rest after {gate.waited_s:.1f} s: {'; '.join(restless)};"
            f" study.gate.at_most_s={gate.at_most_s:g}"
        )
    calm = "; ".join(q.description for q in gate.quantities)
    return True, f"at rest after {gate.waited_s:.1f} s: {calm}"


def _same_tokens(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    return quality.same_tokens(capture, trial.cell.settings.measurement.limits.divergence_pct)


def _views_agree(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    """Compare two views of the same energy; the intervals of both bound the ratio."""
    found = crosschecks([figure for figure in energy if figure.window == "serve"])
    if not found:
        return None, "no energy is seen twice"
    share = trial.cell.settings.measurement.limits.disagreement_pct / 100
    words = [f"{c.name} {c.ratio:.3f} ({c.low:.3f} to {c.high:.3f})" for c in found]
    return all(check.agrees(share) for check in found), "; ".join(words)


def _idle_is_idle(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    """Net energy is meaningful only if serving draws no less than the baseline."""
    idle, busy = (_total_watts(capture, energy, name) for name in ("baseline", "serve"))
    if not idle or not busy:
        return None, "no energy of both baseline and serving"
    (idle_low, _), (_, busy_high) = idle, busy
    words = f"at least {idle_low:.4g} W idle, at most {busy_high:.4g} W serving"
    return idle_low <= busy_high, words


def _total_watts(
    capture: Capture, energy: Sequence[EnergyFigure], name: str
) -> tuple[float, float] | None:
    """Lower and upper end of the interval of a window's mean power."""
    window = capture.window(name)
    for figure in energy:
        if window and figure.domain in _SUMS and figure.window == name:
            if figure.low_j is None or figure.high_j is None:
                return None
            return figure.low_j / window.duration_s, figure.high_j / window.duration_s
    return None


_CHECKS: dict[str, _Check] = {
    "settings_in_force": _settings_in_force,
    "versions": _versions,
    "whole_workload": _whole_workload,
    "token_counts": _token_counts,
    "time_stamps": _time_stamps,
    "same_outputs": _same_outputs,
    "client_kept_up": lambda trial, capture, energy: load.client_kept_up(trial, capture),
    "same_prompts": lambda trial, capture, energy: quality.same_prompts(capture),
    "sampler_alive": _sampler_alive,
    "not_suspended": instrument_checks.not_suspended,
    "energy_known": _energy_known,
    "requested_meter": _requested_meter,
    "work_on_metered_device": _on_metered_device,
    "alone_on_cpu": _alone_on_cpu,
    "alone_on_gpu": _alone_on_gpu,
    "no_steal": _mean_within("cpu_steal_percentage", "steal_pct", "% of processor time"),
    "cpu_not_throttled": _mean_within("cpu_throttled_percentage", "throttled_pct", "% of the time"),
    "quota_not_throttled": instrument_checks.quota_not_throttled,
    "gpu_not_throttled": _mean_within("_throttled", "throttled_pct", "% of the time", factor=100.0),
    "same_governor": _same_governor,
    "wall_unit": instrument_checks.wall_unit_plausible,
}
_FLAGS: dict[str, _Check] = {
    "all_weights_used": _all_weights_used,
    "rested": _rested,
    "as_planned": _as_planned,
    "steady": _steady,
    "ramped_up": lambda trial, capture, energy: load.ramped_up(capture),
    "server_kept_up": lambda trial, capture, energy: load.kept_up(trial, capture),
    "token_stamps": lambda trial, capture, energy: stamps.reliable(capture),
    "idle_is_idle": _idle_is_idle,
    "wall_clock_steady": instrument_checks.wall_clock_steady,
    "fine_enough": instrument_checks.fine_enough,
    "views_agree": _views_agree,
    "same_tokens_as_reference": _same_tokens,
}
