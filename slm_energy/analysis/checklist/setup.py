"""Items about the machine and its sensors."""

from __future__ import annotations

from slm_energy.analysis.checklist.facts import Facts, distinct
from slm_energy.analysis.checklist.item import Answer
from slm_energy.analysis.text.phrases import joined, number, percent
from slm_energy.record import Source

_NO_SENSOR = (
    "measure on a machine with a sensor that slm-energy doctor lists, or with a meter at the wall"
    " (measurement=wall)"
)


def machine(facts: Facts) -> Answer:
    """Processor, memory, GPUs, kernel, driver."""
    gpus = facts.each(
        lambda record: distinct(
            figure.pedigree.get("device")
            for figure in record.energy
            if figure.domain == "gpu" and figure.summed
        )
    )
    known = {
        "processor": facts.environment("processor"),
        "usable processors": facts.environment("processors_usable"),
        "memory, GiB": facts.environment("memory_gib"),
        "metered GPUs": gpus,
        "NVIDIA driver": facts.environment("nvidia_driver"),
        "kernel": facts.environment("platform"),
    }
    text = "; ".join(f"{name}: {value}" for name, value in known.items() if value)
    return Answer(text, "" if known["processor"] else "run a round again: no processor is recorded")


def sensors(facts: Facts) -> Answer:
    """Each source of joules with its period and accuracy."""
    read = [source for source in facts.sources if source.kind != "estimate"]
    if not read:
        names = joined([source.id for source in facts.sources])
        return Answer(f"no sensor; {names or 'no energy was read'}", _NO_SENSOR)
    return Answer(joined([_sensor(source) for source in read], most=8))


def _sensor(source: Source) -> str:
    parts = [source.kind, source.domain]
    if source.update_period_ns is not None:
        how = "measured" if source.update_period_measured else "documented"
        parts.append(f"new value every {number(source.update_period_ns / 1e6)} ms ({how})")
    parts.append(f"gain within {source.gain_pct:g} %" if source.gain_pct else "gain not known")
    return f"{source.id} ({', '.join(parts)}{', in the sum' * source.summed})"


def scope(facts: Facts) -> Answer:
    """What the joules are the energy of."""
    if facts.report.scope:
        return Answer(facts.report.scope)
    if facts.sources:
        return Answer(f"the whole machine, as estimated by a model ({facts.sources[0].id})")
    return Answer("no energy was read", _NO_SENSOR)


def sampling(facts: Facts) -> Answer:
    """How often sensors are read, and what that costs."""
    periods = [r.capture.sampler.period_s for r in facts.records if r.capture and r.capture.sampler]
    if not periods:
        return Answer("nothing was sampled", "measurement=auto")
    parts = [f"every {number(1000 * max(periods))} ms in a process of its own"]
    if pauses := facts.values("sampler/largest_pause_s"):
        parts.append(f"largest delay {number(1000 * max(pauses))} ms")
    if shares := facts.values("sampler/cpu_pct"):
        parts.append(f"at most {number(max(shares))} % of one processor")
    slow = "measurement.period_s=1 or less" if max(periods) > 1 else ""
    return Answer("; ".join(parts), slow)


def compared(facts: Facts) -> Answer:
    """Whether the sensors were compared with a reference."""
    parts = [
        f"{source.id} against {known.reference}: gain {known.gain.low:.3f} to {known.gain.high:.3f}"
        for source in facts.sources
        if (known := source.calibration) is not None
    ]
    remedy = "" if parts else "slm-energy calibrate with a meter at the wall, then the study again"
    if ratios := facts.like("crosscheck/*_ratio"):
        parts.append(f"two views of the same energy: ratio {min(ratios):.3f} to {max(ratios):.3f}")
    return Answer("; ".join(parts) or "no sensor was compared with another", remedy)


def uncertainty(facts: Facts) -> Answer:
    """The interval of an energy figure itself, before any spread over trials."""
    sampled, gained = list[float](), list[float]()
    for result in facts.energy[:1]:
        for row in result.descriptive:
            if row.instrument_high is not None:
                sampled.append(row.instrument_high / row.mean - 1)
            if row.with_gain_high is not None:
                gained.append(row.with_gain_high / row.mean - 1)
    if not sampled:
        return Answer("no interval of the joules themselves is known", _NO_SENSOR)
    parts = [f"at most +{percent(max(sampled))} % from sampling, edges and latency"]
    if gained:
        parts.append(f"+{percent(max(gained))} % with the gain of the sensors")
    unknown = "slm-energy calibrate, then a round more: the gain of these sensors is not known"
    return Answer("; ".join(parts), "" if gained else unknown)
