"""What a package holds beside its records: everything here follows from them.

`export` writes these files and `verify` makes them again, so that a number that was changed in one
of them is found.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import yaml

from slm_energy.distributions import BUILDS
from slm_energy.errors import AnalysisError
from slm_energy.replication import crate
from slm_energy.replication.archive import MANIFEST
from slm_energy.replication.package import RECORDS, REPORT, About, Package, distinct, moment

if TYPE_CHECKING:
    import pandas as pd

    from slm_energy.running.report import StoredReport

_VERSION = "version."
README, CITATION = "README.md", "CITATION.cff"
REGISTRATION = "registration.yaml"


def contents(package: Package, about: About, registration: str | None = None) -> dict[str, bytes]:
    """Name to content of all files that follow from a package's records.

    Args:
        package: its records.
        about: its `package.json`.
        registration: path of the registration that the report compares the study with.

    Raises:
        AnalysisError: the trials allow no report, or not all of one.
    """
    from slm_energy.analysis.checklist import checklist
    from slm_energy.analysis.render.checklist import files as checklist_files
    from slm_energy.running.checklist import study_facts
    from slm_energy.running.report import study_report

    report = study_report(package, about.analysis, registration=registration)
    rendered = report.files()
    if rendered.failures:
        raise AnalysisError(
            f"the report is incomplete: {rendered.failures[0].sentence()}"
            f" (slm-energy report study={about.study} out=FOLDER writes the tracebacks)"
        )
    frame = package.frame(about.study)
    made = {f"{REPORT}/{name}": content for name, content in rendered.contents.items()}
    items = checklist(study_facts(package, report.result))
    made |= checklist_files(items, about.study)
    made[README] = _readme(about, report, frame).encode()
    made |= _environments(package, frame)
    made[CITATION] = _citation(about, frame).encode()
    made[crate.METADATA] = crate.metadata(about, package, frame, sorted(made)).encode()
    return made


def _readme(about: About, report: StoredReport, frame: pd.DataFrame) -> str:
    first, last = (moment(int(each)) for each in (frame["started"].min(), frame["started"].max()))
    outcomes = ", ".join(f"{n} {name}" for name, n in frame["outcome"].value_counts().items())
    machines = ", ".join(sorted(frame["machine"].unique()))
    models = _table(
        ("model", "source", "revision", "digest of its files"),
        distinct(frame, ("model.name", "model.source", "model.revision", "model.digest")),
    )
    workloads = _table(
        ("workload", "source", "revision", "digest of its prompts"),
        distinct(
            frame, ("workload.name", "workload.source", "workload.revision", "workload.digest")
        ),
    )
    findings = "\n".join(f"- {finding}" for finding in report.result.findings)
    replaced = [f"{kind} ({count})" for kind, count in about.replaced.items()]
    left_out = [
        "Model weights: the table above names them by source, revision and digest.",
        *about.left_out,
        *about.changes,
        *([f"Replaced by neutral words: {', '.join(replaced)}."] if replaced else []),
    ]
    notes = "\n".join(f"- {line}" for line in left_out)
    days = " to ".join(dict.fromkeys(f"{day:%Y-%m-%d}" for day in (first, last)))
    return f"""# {about.title}

{len(frame)} trials of the study `{about.study}` on {machines}, {days}: {outcomes}.
Each has the raw readings of all sensors, so that every figure of the report can be computed again.

## Findings

{findings}

All tables and figures: `{REPORT}/report.html`. Unrounded: `{REPORT}/comparisons.json` and
`{REPORT}/trials.parquet`.

## Verify

    pip install slm-energy=={about.version}
    slm-energy verify .

computes every joule, interval, check, metric and verdict again from the readings and compares them
with what this package states. It needs no accelerator and no model. `sha256sum -c {MANIFEST}`
checks the files alone.

## Run again

    slm-energy reproduce .

runs the plan on another machine and compares the verdicts one by one. `rounds=2` runs less of it,
and `weights=random` needs no download.

## What is measured

{models}

{workloads}

`{RECORDS}/MACHINE/TRIAL/` has the record of a trial: settings and versions (`record.json`,
`environment.json`), readings and token times (`capture/`), what was generated (`outputs/`).

## What is left out or was changed

{notes}

## Licence

Data: {about.data_license}. Configurations: {about.code_license}.
"""


def _environments(package: Package, frame: pd.DataFrame) -> dict[str, bytes]:
    """The versions that each engine ran with, and those of the sweeps, as pip reads them."""
    known = dict[str, dict[str, Any]]()
    servers = frame.get("engine.options.server", frame["engine.name"])
    named = servers.where(servers.notna() & (servers != "None"), frame["engine.name"])
    for name, own in frame.groupby(named):
        versions = own.filter(regex=rf"^{_VERSION}").drop_duplicates()
        for number, row in enumerate(versions.to_dict("records"), start=1):
            several = f"-{number}" if len(versions) > 1 else ""
            known[f"engine-{name}{several}"] = {str(key): value for key, value in row.items()}
    for machine in sorted(frame["machine"].unique()):
        for plan in package.plans("", str(machine)):
            known["sweeps"] = json.loads(plan)["frozen"]["facts"]
    return {
        f"environment/{name}.txt": _requirements(name, versions).encode()
        for name, versions in known.items()
    }


def _requirements(name: str, versions: dict[str, Any]) -> str:
    """What is no package, such as the digest of the builds, is a comment."""
    lines = [f"# {name}"]
    for key, value in sorted(versions.items()):
        package = key.removeprefix(_VERSION)
        known = isinstance(value, str) and value != "absent"
        if key.startswith(_VERSION) and known:
            comment = "# " if package in ("python", BUILDS) or "/" in package else ""
            lines.append(f"{comment}{package}=={value}")
    return "\n".join(lines) + "\n"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell or '-' for cell in line)} |" for line in lines)


def _citation(about: About, frame: pd.DataFrame) -> str:
    content: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": "Please cite this package if you use its data.",
        "type": "dataset",
        "title": about.title,
        "authors": [{"name": name} for name in about.authors] or [{"name": "Anonymous"}],
        "date-released": moment(int(frame["started"].max())).date(),
        "license": about.data_license,
    }
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
