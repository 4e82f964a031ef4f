"""A study beside its registration, item by item."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Sequence

from slm_energy.analysis.registration.document import Registration, RegistrationFile
from slm_energy.analysis.result.registration import RegisteredItem, RegistrationCheck
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.text.phrases import joined, times
from slm_energy.planning.freeze import Frozen
from slm_energy.serialization import Json, to_plain


def checked(report: Report, file: RegistrationFile, plans: Sequence[Frozen]) -> Report:
    """The report with the comparison, a finding and a paragraph of the methods about it.

    Args:
        report: of the study.
        file: what was declared.
        plans: what the plan of each invocation of the study depended on.
    """
    registration = file.registration
    check = RegistrationCheck(
        digest=file.digest,
        registered=registration.registered,
        hypotheses=registration.hypotheses,
        items=(
            _item("digest of the file", file.stated_digest, file.digest),
            _item("study", registration.study, report.study),
            _item("machine", registration.machine, report.machine),
            _in_advance(registration, report),
            *_analysis(registration, report),
            _cells(registration, report),
            _rounds(registration, report),
            *_plans(registration, plans),
        ),
    )
    return dataclasses.replace(
        report,
        registration=check,
        findings=(*report.findings, _sentence(check)),
        methods=(*report.methods, _paragraph(check)),
    )


def _item(name: str, registered: str, actual: str) -> RegisteredItem:
    return RegisteredItem(
        name=name, registered=registered, actual=actual, follows=registered == actual
    )


def _in_advance(registration: Registration, report: Report) -> RegisteredItem:
    """Whether it was written before the first trial, by the clocks of the machines."""
    first = report.provenance.first_started
    before = registration.trials_before
    known = bool(first) and _time(registration.registered) <= _time(first)
    return RegisteredItem(
        name="in advance",
        registered=f"{registration.registered}, after {times(before, 'trial')}",
        actual=f"first trial {first or 'at an unknown time'}",
        follows=known and before == 0,
    )


def _time(text: str) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)


def _analysis(registration: Registration, report: Report) -> Iterator[RegisteredItem]:
    """The options of the report beside those that were declared."""
    used = to_plain(report.options)
    for key, declared in registration.analysis.items():
        if key == "metrics":
            names = declared if isinstance(declared, list) else []
            yield from _metrics(names, report.options.metrics)
        elif key not in used:
            yield RegisteredItem(
                name=key, registered=_text(declared), actual="no such option", follows=False
            )
        else:
            yield RegisteredItem(
                name=key,
                registered=_text(declared),
                actual=_text(used[key]),
                follows=declared == used[key],
            )


def _text(value: Json) -> str:
    if value is None or value == []:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _metrics(declared: Sequence[str], used: Sequence[str]) -> Iterator[RegisteredItem]:
    yield _item("metric that decides", "".join(declared[:1]), used[0])
    added = [name for name in used if name not in declared]
    gone = [name for name in declared if name not in used]
    changes = [f"added {joined(added)}"] if added else []
    changes += [f"left out {joined(gone)}"] if gone else []
    yield RegisteredItem(
        name="metrics",
        registered=", ".join(declared),
        actual="; ".join(changes) or ", ".join(used),
        follows=not changes,
    )


def _cells(registration: Registration, report: Report) -> RegisteredItem:
    valid = {cell.id for cell in report.cells if cell.valid}
    missing = [label for name, label in registration.cells.items() if name not in valid]
    added = [cell.label for cell in report.cells if cell.id not in registration.cells]
    changes = [f"without a valid trial: {joined(missing)}"] if missing else []
    changes += [f"added: {joined(added)}"] if added else []
    return RegisteredItem(
        name="cells",
        registered=times(len(registration.cells), "cell"),
        actual="; ".join(changes) or times(len(valid), "cell"),
        follows=not changes,
    )


def _rounds(registration: Registration, report: Report) -> RegisteredItem:
    """The stopping rule: a number of rounds, or a precision with a most number of rounds."""
    ran, most = len(report.audit.rounds), registration.rounds
    rule, actual = times(most, "round"), times(ran, "round")
    if registration.precision_pct is not None:
        rule = (
            f"at most {rule}, fewer as soon as all intervals are within"
            f" {registration.precision_pct:g} % (study.precision_pct)"
        )
    if ran > most:
        actual += f": {ran - most} beyond the rule"
    elif ran < most:
        actual += f": {report.stopped or f'{most - ran} fewer'}"
    early = registration.precision_pct is not None and bool(report.stopped)
    return RegisteredItem(
        name="stopping rule",
        registered=rule,
        actual=actual,
        follows=ran == most or (ran < most and early),
    )


def _plans(registration: Registration, plans: Sequence[Frozen]) -> Iterator[RegisteredItem]:
    """The digest of the plan, and below it each fact that an invocation had otherwise."""
    digests = list(dict.fromkeys(plan.digest for plan in plans))
    yield RegisteredItem(
        name="digest of the plan",
        registered=registration.plan_digest,
        actual=", ".join(digests) or "no plan is stored",
        follows=digests == [registration.plan_digest],
    )
    declared = registration.plan.facts
    for key in sorted(declared.keys() | {key for plan in plans for key in plan.facts}):
        before = declared.get(key, "absent")
        others = dict.fromkeys(plan.facts.get(key, "absent") for plan in plans)
        if changed := [value for value in others if value != before]:
            yield RegisteredItem(
                name=key, registered=before, actual=", ".join(changed), follows=False
            )


def _sentence(check: RegistrationCheck) -> str:
    which = f"its registration of {check.registered[:10]} (digest {check.digest[:12]})"
    total = times(len(check.items), "item")
    if not check.departures:
        return f"The study follows {which} in all {total}."
    changes = [
        f"{item.name} (registered: {item.registered}; here: {item.actual})"
        for item in check.departures
    ]
    return f"The study departs from {which} in {len(changes)} of {total}: {joined(changes)}."


def _paragraph(check: RegistrationCheck) -> str:
    return (
        f"Hypotheses, metrics, margin, families and stopping rule were registered at"
        f" {check.registered} (SHA-256 {check.digest}): {' '.join(check.hypotheses)}"
    )
