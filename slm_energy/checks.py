"""Named expectations about a trial: each passes, fails or does not apply. Pure.

A failed expectation makes the trial invalid; its detail is the reason that people read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from slm_energy.cell import Trial
from slm_energy.record import Capture, CheckResult, EnergyFigure

_Verdict = tuple[bool | None, str]
_Check = Callable[[Trial, Capture, Sequence[EnergyFigure]], _Verdict]


def run(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> tuple[CheckResult, ...]:
    """Apply every expectation, in a fixed order."""
    results = []
    for name, check in _CHECKS.items():
        passed, detail = check(trial, capture, energy)
        results.append(CheckResult(name=name, passed=passed, detail=detail))
    return tuple(results)


def _settings_in_force(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    asked = trial.cell.settings
    wanted = {
        "provider": asked.provider.name,
        "dtype": asked.engine.dtype,
        "decode": asked.engine.decode,
        "kv_cache": True,
    }
    if asked.engine.threads is not None:
        wanted["threads"] = asked.engine.threads
    for key, value in wanted.items():
        if capture.effective.get(key) != value:
            return False, f"{key} was asked to be {value} and is {capture.effective.get(key)}"
    return True, ", ".join(f"{key}={value}" for key, value in wanted.items())


def _whole_workload(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    passes: dict[int, list[str]] = {}
    for generation in capture.generations:
        passes.setdefault(generation.pass_index, []).append(generation.task_id)
    if not passes:
        return False, "no request was served"
    first = passes[0]
    for number, tasks in passes.items():
        if tasks != first:
            return False, f"pass {number} served {len(tasks)} requests, the first {len(first)}"
    return True, f"{len(first)} prompts, {len(passes)} times"


def _token_counts(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    workload = trial.cell.settings.workload
    for g in capture.generations:
        count = len(g.output_ids)
        if len(g.token_ns) != count:
            return False, f"{g.task_id}: {count} tokens but {len(g.token_ns)} time stamps"
        if not 1 <= count <= workload.new_tokens:
            return False, f"{g.task_id}: {count} tokens, asked for {workload.new_tokens}"
        if workload.stop == "fixed" and count != workload.new_tokens:
            return False, f"{g.task_id}: {count} tokens, asked for exactly {workload.new_tokens}"
    return True, f"{workload.stop}, {workload.new_tokens} tokens asked per request"


def _time_stamps(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    serve = capture.window("serve")
    if serve is None:
        return False, "there is no serve window"
    for g in capture.generations:
        stamps = (serve.start_ns, g.start_ns, *g.token_ns, serve.end_ns)
        if any(later < earlier for earlier, later in itertools.pairwise(stamps)):
            return False, f"{g.task_id}: time stamps do not rise within the serve window"
    return True, "tokens in order, within the serve window"


def _same_outputs(trial: Trial, capture: Capture, energy: Sequence[EnergyFigure]) -> _Verdict:
    first = {g.task_id: g.output_ids for g in capture.generations if g.pass_index == 0}
    for g in capture.generations:
        if g.output_ids != first[g.task_id]:
            pairs = enumerate(zip(g.output_ids, first[g.task_id], strict=False))
            shorter = min(len(g.output_ids), len(first[g.task_id]))
            at = next((i for i, (a, b) in pairs if a != b), shorter)
            return False, f"{g.task_id}: pass {g.pass_index} differs from the first at token {at}"
    return True, "every pass generated the same tokens"


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
    serve = [f for f in energy if f.window == "serve" and f.domain == "total"]
    if not serve:
        return False, "no source of energy was read"
    for figure in serve:
        if figure.joules is None:
            return False, f"serve window, {figure.source_id}: {'; '.join(figure.reasons)}"
        if figure.joules <= 0:
            return False, f"serve window, {figure.source_id}: {figure.joules} J cannot be"
    if mode == "strict" and all(f.kind == "estimate" for f in serve):
        return False, "measurement=strict, but there is only an estimate"
    kinds = ", ".join(f"{f.joules:.4g} J ({f.kind})" for f in serve)
    return True, kinds


_CHECKS: dict[str, _Check] = {
    "settings_in_force": _settings_in_force,
    "whole_workload": _whole_workload,
    "token_counts": _token_counts,
    "time_stamps": _time_stamps,
    "same_outputs": _same_outputs,
    "sampler_alive": _sampler_alive,
    "energy_known": _energy_known,
}
