import json

from slm_energy.analysis.trials.hardware import hardware

GPU = {"window": "serve", "domain": "gpu", "kind": "counter", "summed": True}
PACKAGE = GPU | {"source_id": "rapl/0", "domain": "cpu_package", "pedigree": {}}


def test_what_a_trial_recorded_is_said_and_what_it_did_not_is_absent() -> None:
    figures = [
        PACKAGE,
        PACKAGE | {"window": "load", "source_id": "rapl/1"},
        GPU | {"source_id": "nvml/GPU-1", "pedigree": {"device": "GPU-1 NVIDIA H100"}},
        GPU | {"source_id": "total", "domain": "total"},
    ]
    environment = {"processor": "EPYC", "memory_gib": 64, "governor": None}
    texts = {
        "environment.json": json.dumps({"environment": environment}),
        "energy.json": json.dumps(figures),
    }
    assert hardware("run", lambda run, name: texts[name]) == {
        "processor": "EPYC",
        "memory, GiB": "64",
        "metered GPUs": "GPU-1 NVIDIA H100",
        "sensors": "rapl/0 (counter, in the sum), nvml/GPU-1 (counter, in the sum)",
    }
