"""What a study ran on, in words, from the files of one of its trials."""

from __future__ import annotations

import json

from slm_energy.analysis.trials.answers import ReadArtifact

_FACTS = {
    "processor": "processor",
    "processors_usable": "usable processors",
    "memory_gib": "memory, GiB",
    "platform": "kernel",
    "governor": "frequency governor",
    "nvidia_driver": "NVIDIA driver",
    "python": "Python",
}


def hardware(run: str, read: ReadArtifact) -> dict[str, str]:
    """Fact to value; what the trial did not record is absent.

    Args:
        run: a valid trial.
        read: gives its files.
    """
    environment = json.loads(read(run, "environment.json"))["environment"]
    facts = {
        name: str(environment[key])
        for key, name in _FACTS.items()
        if environment.get(key) is not None
    }
    figures = [f for f in json.loads(read(run, "energy.json")) if f["window"] == "serve"]
    sources = [f for f in figures if f["domain"] not in ("total", "sum")] or figures
    devices = {f["source_id"]: f.get("pedigree", {}).get("device") for f in sources}
    gpus = [devices[f["source_id"]] for f in sources if f["domain"] == "gpu" and f["summed"]]
    if gpus:
        facts["metered GPUs"] = ", ".join(map(str, gpus))
    facts["sensors"] = ", ".join(
        f"{f['source_id']} ({f['kind']}{', in the sum' * bool(f['summed'])})" for f in sources
    )
    return facts
