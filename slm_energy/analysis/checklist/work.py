"""Items about models, engines, requests and answers."""

from __future__ import annotations

from slm_energy.analysis.checklist.facts import Facts, distinct
from slm_energy.analysis.checklist.item import Answer
from slm_energy.analysis.text.phrases import joined, share, times
from slm_energy.cell import served_by
from slm_energy.record import Record


def models(facts: Facts) -> Answer:
    """Which weights, so that others can get the same."""
    names = facts.each(_model)
    local = {
        record.trial.cell.settings.model.name for record in facts.records if not _can_be_had(record)
    }
    remedy = f"publish the weights of {joined(sorted(local))}, or name a hub id and model.revision"
    return Answer(names, remedy if local else "")


def _model(record: Record) -> str:
    model, cell = record.trial.cell.settings.model, record.trial.cell
    if model.weights == "random":
        return f"{model.name} with random weights ({model.scale})"
    where = f"{model.source} at {model.revision}" if model.revision else model.name
    return f"{where} (content {cell.model_digest})"


def _can_be_had(record: Record) -> bool:
    model = record.trial.cell.settings.model
    return bool(model.revision) or model.weights == "random" or model.source == "bundled"


def engines(facts: Facts) -> Answer:
    """Engine, library versions, Python."""
    return Answer(
        facts.each(lambda record: f"{served_by(record.trial.cell.settings)} ({_versions(record)})")
    )


def _versions(record: Record) -> str:
    versions = record.trial.cell.versions.items()
    return distinct(f"{name} {version}" for name, version in versions if version != "absent")


def in_force(facts: Facts) -> Answer:
    """Settings read back from the engine, not copied from the request."""
    keys = ("provider", "threads", "kv_cache", "attention")
    texts = [f"{key} {value}" for key in keys if (value := facts.in_force(key))]
    remedy = "" if texts else "an engine that reports its settings"
    return Answer("read back from the engine: " + "; ".join(texts), remedy)


def precision(facts: Facts) -> Answer:
    """Of weights and activations."""
    return Answer(
        f"requested {facts.setting('engine.dtype')}, in force {facts.in_force('dtype')}",
        "" if facts.in_force("dtype") else "an engine that reports the type of its weights",
    )


def decoding(facts: Facts) -> Answer:
    """How tokens are chosen and when an answer ends."""
    return Answer(
        f"greedy; decode={facts.setting('engine.decode')}, stop={facts.setting('workload.stop')},"
        f" at most {facts.setting('workload.new_tokens')} new tokens"
    )


def prompts(facts: Facts) -> Answer:
    """Which requests, and in what form."""
    workloads = facts.each(
        lambda record: (
            f"{record.trial.cell.settings.workload.name} from"
            f" {_place(record)} (content {record.trial.cell.workload_digest})"
        )
    )
    passes = [t.values for t in facts.report.trials if "tokens/passes" in t.values]  # no load
    counts = distinct(f"{v['tokens/requests'] / v['tokens/passes']:g} requests" for v in passes)
    sent = f"{counts or 'its prompts in turn'}, sent as {facts.setting('workload.prompt')}"
    return Answer(f"{workloads}; {sent}")


def _place(record: Record) -> str:
    workload = record.trial.cell.settings.workload
    return f"{workload.source} at {workload.revision}" if workload.revision else workload.source


def load(facts: Facts) -> Answer:
    """How requests arrive."""
    return Answer(facts.each(_arrivals))


def _arrivals(record: Record) -> str:
    load = record.trial.cell.settings.load
    if load.mode == "closed":
        return f"{times(load.clients, 'client')}, a pause of {load.think_s:g} s after each answer"
    if load.mode == "open":
        return load.trace or f"{load.rate:g} requests/s, {load.arrivals}"
    return f"one client, batches of {record.trial.cell.settings.workload.batch_size}, no pauses"


def same_tokens(facts: Facts) -> Answer:
    """Whether all configurations did the same work."""
    rates = [cell.agreement for cell in facts.report.cells if cell.agreement is not None]
    if not rates:
        return Answer("answers were not compared", "study.reference=torch")
    against = facts.each(lambda record: record.capture and record.capture.reference
                         and record.capture.reference.engine)  # fmt: skip
    lowest = min(rates)
    return Answer(
        f"token by token with {against}: all tokens equal in {share(lowest)} % of the prompts"
        + (" of the cell that agrees least" if lowest < 1 else "")
    )


def correctness(facts: Facts) -> Answer:
    """Whether the generated code works."""
    rows = [row for result in facts.report.solved for row in result.cells]
    if not rows:
        why = facts.report.unscored or "there are no scores"
        return Answer(why, f"slm-energy score study={facts.report.study}, on tasks with tests")
    rates = [100 * row.rate for row in rows]
    where = facts.each(lambda record: record.scored_in)
    return Answer(
        f"{min(rates):.3g} to {max(rates):.3g} % of {times(rows[0].scored, 'task')} solved"
        + (f"; tested in {where}" if where else "")
    )
