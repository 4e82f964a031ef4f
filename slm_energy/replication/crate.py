"""The metadata of a package as an RO-Crate of the profile Workflow Run Crate 0.5.

Profile: https://w3id.org/ro/wfrun/workflow/0.5. The workflow is the plan of the study's first
invocation; each invocation is a run of it, whose results are the records of its trials.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from slm_energy.replication.package import ABOUT, RECORDS, About, Package, distinct, moment
from slm_energy.store.offline import SWEEP_SUFFIX, Sweep

if TYPE_CHECKING:
    import pandas as pd
    from rocrate.rocrate import ROCrate

METADATA = "ro-crate-metadata.json"
_PROFILES = (
    ("https://w3id.org/ro/wfrun/process/0.5", "Process Run Crate", "0.5"),
    ("https://w3id.org/ro/wfrun/workflow/0.5", "Workflow Run Crate", "0.5"),
    ("https://w3id.org/workflowhub/workflow-ro-crate/1.0", "Workflow RO-Crate", "1.0"),
)
_PROGRAM = "#slm-energy"
_TYPES = {
    "html": "text/html", "md": "text/markdown", "json": "application/json", "svg": "image/svg+xml",
    "tex": "application/x-tex", "csv": "text/csv", "parquet": "application/vnd.apache.parquet",
    "cff": "application/yaml", "yaml": "application/yaml",
}  # fmt: skip


def metadata(about: About, package: Package, frame: pd.DataFrame, files: Sequence[str]) -> str:
    """The content of `ro-crate-metadata.json`.

    Args:
        about: title, authors and licences.
        package: its invocations.
        frame: its trials.
        files: names of the package's other files, beside records.
    """
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version="1.1")
    last = moment(int(frame["started"].max()))
    crate.name, crate.datePublished = about.title, last.isoformat(timespec="seconds")
    crate.description = (
        f"Replication package of the study {about.study}: plan, readings, generations, report."
    )
    crate.license = _add(
        crate, _license(about.data_license), "CreativeWork", name=about.data_license
    )
    _add(crate, _license(about.code_license), "CreativeWork", name=about.code_license)
    crate.root_dataset["conformsTo"] = [
        _add(crate, uri, "CreativeWork", name=name, version=version)
        for uri, name, version in _PROFILES
    ]
    if about.authors:
        crate.creator = [
            _add(crate, f"#author-{n}", "Person", name=name)
            for n, name in enumerate(about.authors, start=1)
        ]
    _add(
        crate,
        _PROGRAM,
        ["SoftwareApplication", "ComputerLanguage"],
        name="slm-energy",
        version=about.version,
        softwareVersion=about.version,
        url="https://pypi.org/project/slm-energy/",
    )
    _add_models(crate, frame)
    for name in (ABOUT, *files):
        form = _TYPES.get(name.rpartition(".")[2])
        crate.add_file(dest_path=name, properties={"encodingFormat": form} if form else {})
    _add_runs(crate, about, package, frame)
    return json.dumps(crate.metadata.generate(), indent=1, sort_keys=True) + "\n"


def _license(spdx: str) -> str:
    return f"https://spdx.org/licenses/{spdx}"


def _add(crate: ROCrate, name_in_crate: str, kind: str | list[str], /, **properties: Any) -> Any:
    """Add an entity that is no file of the package."""
    from rocrate.model import ContextEntity

    known = {"@type": kind} | {key: value for key, value in properties.items() if value}
    return crate.add(ContextEntity(crate, name_in_crate, properties=known))


def _add_models(crate: ROCrate, frame: pd.DataFrame) -> None:
    names = ("model.name", "model.source", "model.revision", "model.digest")
    for name, source, revision, digest in distinct(frame, names):
        _add(
            crate,
            f"#model-{digest}",
            "SoftwareSourceCode",
            name=name,
            identifier=source,
            version=revision,
            description=f"Weights, not included; digest of the files: {digest}",
        )


def _add_runs(crate: ROCrate, about: About, package: Package, frame: pd.DataFrame) -> None:
    actions = []
    for machine, trials in frame.groupby("machine"):
        sweeps = {sweep.id: sweep for sweep in package.sweeps(str(machine))}
        for sweep, own in trials.groupby("sweep"):
            records = [
                crate.add_dataset(
                    dest_path=f"{RECORDS}/{machine}/{row.run_id}/",
                    properties={
                        "name": f"{row.label}, round {row.round}",
                        "description": f"One trial with its capture: {row.outcome}",
                    },
                )
                for row in own.itertuples()
            ]
            plan = _plan(
                crate, about, f"{RECORDS}/{machine}/{sweep}{SWEEP_SUFFIX}", sweeps[str(sweep)]
            )
            actions.append(_run(crate, str(sweep), str(machine), sweeps[str(sweep)], plan, records))
    crate.root_dataset["mentions"] = actions


def _plan(crate: ROCrate, about: About, name: str, sweep: Sweep) -> Any:
    """The file of an invocation; the first one is the crate's workflow."""
    plan = crate.add_file(
        dest_path=name,
        properties={
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
            "name": f"Plan of the study {about.study}",
            "encodingFormat": "application/json",
            "programmingLanguage": {"@id": _PROGRAM},
            "license": {"@id": _license(about.code_license)},
            "version": sweep.plan or sweep.id,
        },
    )
    if crate.mainEntity is None:
        crate.mainEntity = plan
    return plan


def _run(
    crate: ROCrate, sweep: str, machine: str, known: Sweep, plan: Any, records: Sequence[Any]
) -> Any:
    begun, ended = (
        moment(ms).isoformat(timespec="seconds")
        for ms in (known.started_ms, known.ended_ms or known.started_ms)
    )
    status = "CompletedActionStatus" if known.status == "FINISHED" else "FailedActionStatus"
    return _add(
        crate,
        f"#sweep-{sweep}",
        "CreateAction",
        name=f"Sweep {sweep} on {machine}",
        instrument=plan,
        result=list(records),
        startTime=begun,
        endTime=ended,
        actionStatus=f"http://schema.org/{status}",
    )
