"""Check of the sandbox in which generated code is tested."""

from __future__ import annotations

from slm_energy.config.groups import StudyConfig
from slm_energy.doctor.finding import Finding
from slm_energy.scoring import bubblewrap


def generated_code(study: StudyConfig) -> Finding:
    """Check that generated code can be isolated, if it is to be tested."""
    name = "sandbox"
    if study.sandbox != "bubblewrap":
        detail = f"study.sandbox={study.sandbox}"
        return Finding(name=name, verdict="not applicable", detail=detail)
    try:
        version = bubblewrap.version()
    except bubblewrap.SandboxError as error:
        detail, _, remedy = str(error).partition(": ")
        return Finding(name=name, verdict="warn", detail=detail, remedy=remedy)
    return Finding(name=name, verdict="ok", detail=f"{version} isolates generated code")
