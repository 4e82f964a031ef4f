"""Items about how trials ran."""

from __future__ import annotations

from slm_energy.analysis.checklist.facts import Facts, span
from slm_energy.analysis.checklist.item import Answer
from slm_energy.analysis.text.phrases import number, times

_ROUNDS, _WITHOUT_OUTLIERS = 30, 25
_WINDOW_S = 60.0
_FOREIGN_PCT = 10.0


def warm_up(facts: Facts) -> Answer:
    """Requests before the windows that count, and whether the pace was steady then."""
    steady = facts.values("warmup/steady")
    if not steady:
        return Answer("none", "measurement.warmup_requests=4 measurement.warmup_s=10")
    limit = facts.setting("measurement.warmup_s")
    text = (
        f"at least {facts.setting('measurement.warmup_requests')} requests, at most {limit} s;"
        f" steady pace in {sum(steady):.0f} of {times(len(steady), 'trial')}"
    )
    return Answer(text, "" if all(steady) else f"a longer one than measurement.warmup_s={limit}")


def baseline(facts: Facts) -> Answer:
    """Idle energy, measured separately."""
    seconds = facts.values("time/baseline_s")
    if not seconds:
        return Answer("none", "measurement.baseline_s=10")
    net = "; net energy beside gross" if facts.like("energy*/net_*_j") else ""
    return Answer(f"{span(seconds, 's')} idle in each trial with the weights loaded{net}")


def window(facts: Facts) -> Answer:
    """How long energy is summed over."""
    seconds = facts.values("time/serve_s")
    text = f"{span(seconds, 's')}, whole passes over the workload"
    short = min(seconds) < _WINDOW_S
    return Answer(text, f"measurement.serve_s={_WINDOW_S:g} (MLPerf's minimum)" if short else "")


def repetitions(facts: Facts) -> Answer:
    """Trials per cell: a fixed number, or until intervals are narrow."""
    report = facts.report
    fewest = min(cell.valid for cell in report.cells if cell.rounds)
    text = f"{times(len(report.audit.rounds), 'round')}, at least {fewest} valid trials of a cell"
    if report.stopped:
        return Answer(f"{text}; stopped by a rule that was set before: {report.stopped}")
    enough = len(report.audit.rounds) >= _ROUNDS and fewest >= _WITHOUT_OUTLIERS
    return Answer(
        text, "" if enough else f"study.rounds={_ROUNDS}, or study.precision_pct, set in advance"
    )


def order(facts: Facts) -> Answer:
    """Random order within blocks, with its seed."""
    study, varied = facts.study, facts.report.audit.varied_order
    if not study:
        return Answer("the plan was lost", "state the order and its seed in the paper")
    text = (
        f"every cell once in each round, study.order={study.get('order', 'random')},"
        f" study.seed={study.get('seed')}"
    )
    alike = varied is False and len(facts.report.cells) > 1 and len(facts.report.audit.rounds) > 1
    return Answer(text, "study.rounds above 2: all rounds had the same order" if alike else "")


def rest(facts: Facts) -> Answer:
    """What a trial waits for."""
    gate = facts.study.get("gate", {})
    if not gate:
        return Answer("the plan was lost", "state the pauses between trials in the paper")
    parts = []
    if gate["pause_s"]:
        parts.append(f"{gate['pause_s']:g} s pause")
    if gate["at_most_s"]:
        parts.append(
            f"until processors, GPUs and temperatures are as at the start, at most"
            f" {gate['at_most_s']:g} s"
        )
    return Answer("; ".join(parts) or "none", "" if parts else "study.gate.at_most_s=60")


def isolation(facts: Facts) -> Answer:
    """One process per trial, and how busy other programs were."""
    shares = facts.values("contamination/foreign_cpu_mean_pct")
    text = "each trial in a process of its own"
    if not shares:
        return Answer(f"{text}; other programs were not watched", "measurement=auto")
    text += f"; other programs used {span(shares, '% of the processors')}"
    busy = f"measurement.limits.foreign_cpu_pct={_FOREIGN_PCT:g} on a machine with no other load"
    return Answer(text, busy if max(shares) > _FOREIGN_PCT else "")


def frequency(facts: Facts) -> Answer:
    """The processor's frequency policy, fixed and known."""
    governor = facts.environment("governor")
    if governor:
        return Answer(f"governor {governor}; a trial in which it changes is invalid")
    hidden = "run where the kernel shows it: a virtual machine or container may hide it"
    return Answer("this machine reports no frequency governor", hidden)


def temperature(facts: Facts) -> Answer:
    """Logged with each trial."""
    degrees = facts.like("*_start_c")
    if degrees:
        return Answer(f"{span(degrees, '°C')} at the start of trials")
    return Answer("no temperature was read", "run where sensors show it, or log that of the room")


def noise_floor(facts: Facts) -> Answer:
    """What the machine shows where nothing differs."""
    floor = facts.report.noise_floor
    noise = None if floor is None else floor.of(facts.report.deciding[0].metric.name)
    if floor is None or noise is None:
        return Answer("not measured", "slm-energy --config-name aa_noise_floor on this machine")
    return Answer(
        f"study {floor.study}, {times(floor.rounds, 'round')}: one cell under several names differs"
        f" by at most {number(noise.largest_pct)} %"
    )


def drift(facts: Facts) -> Answer:
    """A control in each round, or the slope over rounds."""
    result = facts.report.deciding[0]
    control = result.sentinel
    if control is not None and control.drift is not None:
        found = control.drift
        return Answer(
            f"sentinel {control.label} in each round over {number(control.hours)} h: slope"
            f" {found.low_pct:+.3g} to {found.high_pct:+.3g} %"
        )
    slopes = [each for each in result.diagnostics.drifts if each.against == "round"]
    if slopes:
        return Answer(f"slope over rounds {slopes[0].low_pct:+.3g} to {slopes[0].high_pct:+.3g} %")
    return Answer("not known", "three rounds or more, or study.sentinel={engine: torch}")


def accounted(facts: Facts) -> Answer:
    """Every planned trial, with the reason of each that does not count."""
    counts = facts.report.audit.outcomes
    text = ", ".join(f"{count} {name}" for name, count in counts.items())
    reasons = {slot.reason for slot in facts.report.audit.slots if slot.reason}
    return Answer(f"trials: {text}" + (f"; {times(len(reasons), 'reason')}" if reasons else ""))


def automation(facts: Facts) -> Answer:
    """No manual step between trials."""
    sweeps = len(facts.report.provenance.sweeps)
    return Answer(f"all trials by one command, in {times(sweeps, 'invocation')}")
