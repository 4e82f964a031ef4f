"""Was the work on a device whose joules are counted?"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from slm_energy.derive.placement import on_metered_device
from slm_energy.record import Capture, Series, Source
from slm_energy.serialization import Json
from tests.captures import S, a_capture, a_counter

SLOW = "GPU-aaaaaaaa-0000-0000-0000-000000000001 NVIDIA Fake 10"
FAST = "GPU-bbbbbbbb-0000-0000-0000-000000000002 NVIDIA Fake 90"
MIG = "MIG-cccccccc-0000-0000-0000-000000000003"
HIDDEN_PIDS = "process 7 on the GPU is not visible here (NoSuchProcess): (--pid=host)"


def metered(device: str = SLOW, **changes: Any) -> Series:
    """A counter that is summed."""
    source = Source(
        id=f"gpu/{device}", kind="counter", domain="gpu", unit="mJ", summed=True, device=device
    )
    return a_counter(source=dataclasses.replace(source, **changes))


def processes(device: str, *counts: int | None, path: str = "nvml", start_s: float = 4) -> Series:
    """Readings each second of how many processes of the trial are on a GPU; None failed."""
    times = tuple(round((start_s + second) * S) for second in range(len(counts)))
    source = Source(
        id=f"gpu_{'01'[device == FAST]}_trial_processes",
        kind="gauge",
        domain="gpu_trial_processes",
        unit="count",
        device=device,
        path=path,
    )
    errors = {str(row): HIDDEN_PIDS for row, count in enumerate(counts) if count is None}
    return Series(source=source, before_ns=times, raw=counts, after_ns=times, errors=errors)


def judged(*series: Series, provider: str = "cuda", **effective: Json) -> tuple[bool | None, str]:
    capture: Capture = a_capture(series=series)
    capture = dataclasses.replace(capture, effective=capture.effective | effective)
    return on_metered_device(provider, capture)


def uuid_of(device: str) -> str:
    return device.partition(" ")[0]


def test_the_runtimes_gpu_is_metered() -> None:
    passed, detail = judged(metered(), device_uuid=uuid_of(SLOW))
    assert passed
    assert detail == f"the runtime computes on {uuid_of(SLOW)}, which is metered"


def test_the_runtimes_gpu_is_another_one_than_the_metered() -> None:
    """CUDA_VISIBLE_DEVICES=0 where GPUs differ: CUDA's first is the fastest, NVML's is not."""
    passed, detail = judged(metered(), device_uuid=uuid_of(FAST))
    assert passed is False
    assert f"computes on {uuid_of(FAST)}, but metered are {SLOW}" in detail
    assert "name the GPUs by UUID in CUDA_VISIBLE_DEVICES" in detail


@pytest.mark.parametrize("written", [MIG, MIG.replace("MIG-", "GPU-"), MIG[4:].upper()])
def test_a_mig_device_belongs_to_its_metered_gpu(written: str) -> None:
    listed = processes(SLOW, 1, path=f"nvml {MIG}")
    assert judged(metered(), listed, device_uuid=written)[0] is True
    assert judged(metered(FAST), device_uuid=written)[0] is False


def test_a_server_is_on_the_gpus_that_list_its_processes() -> None:
    passed, detail = judged(metered(), processes(SLOW, 0, 2), processes(FAST, 0, 0))
    assert passed
    assert detail == f"processes of the trial compute on {SLOW}, metered"


@pytest.mark.parametrize("also_here", [0, 1])
@pytest.mark.parametrize("effective", [{}, {"device_uuid": uuid_of(SLOW)}])
def test_work_on_a_gpu_that_is_not_metered_is_found_there(
    also_here: int, effective: dict[str, Json]
) -> None:
    passed, detail = judged(
        metered(), processes(SLOW, also_here), processes(FAST, None, 1), **effective
    )
    assert passed is False
    assert detail.startswith(f"the trial computes on {FAST}, not metered: ")


@pytest.mark.parametrize(
    ("listed", "why"),
    [
        ((), "the engine reports no device_uuid, and no GPU its processes: see slm-energy doctor"),
        ((processes(SLOW, 0, 0),), "lists a process of the trial; in a container set --pid=host"),
        ((processes(SLOW, None, None),), HIDDEN_PIDS),
        ((processes(SLOW),), "the sampler read nothing while the trial ran"),
        ((processes(SLOW, 0), processes(FAST, None)), HIDDEN_PIDS),
    ],
)
def test_what_is_not_proven_is_invalid(listed: tuple[Series, ...], why: str) -> None:
    passed, detail = judged(metered(), *listed)
    assert passed is False
    assert detail.startswith("it is not proven that provider.name=cuda computes on a metered GPU: ")
    assert why in detail


def test_the_runtimes_word_is_enough_in_a_container_that_hides_processes() -> None:
    listed = processes(SLOW, None, None)
    assert judged(metered(), listed, device_uuid=uuid_of(SLOW))[0] is True


def test_processes_count_between_loading_and_the_end_of_serving() -> None:
    """The capture loads until 2 s and serves until 8 s."""
    assert judged(metered(), processes(SLOW, 1, start_s=2))[0] is True
    assert judged(metered(), processes(SLOW, 1, 0, start_s=1.5))[0] is False
    assert judged(metered(), processes(SLOW, 0, 1, start_s=7.5))[0] is False


@pytest.mark.parametrize(
    ("device", "passed"), [("0000:03:00.0 Arc", True), ("0000:04:00.0", False)]
)
def test_a_gpu_without_a_uuid_goes_by_its_address(device: str, passed: bool) -> None:
    effective: dict[str, Json] = {"device_type": "discrete", "device_pci": "0000:03:00.0"}
    found, detail = judged(metered(device), provider="openvino_gpu", **effective)
    assert found is passed
    assert "0000:03:00.0" in detail


@pytest.mark.parametrize(
    ("domain", "passed"), [("cpu_package", True), ("psys", True), ("gpu", False)]
)
def test_an_integrated_gpu_is_part_of_the_package(domain: str, passed: bool) -> None:
    package = metered(domain=domain, device="package-0")
    found, _ = judged(package, provider="openvino_gpu", device_type="integrated")
    assert found is passed


@pytest.mark.parametrize("domain", ["wall", "machine", "gpu"])
def test_a_source_without_a_device_is_that_of_every_gpu(domain: str) -> None:
    assert judged(metered(domain=domain, device=None))[0] is True


def test_a_processor_or_an_estimate_needs_no_proof() -> None:
    assert judged(metered(), provider="cpu")[0] is None
    assert judged(metered(), provider="openvino_npu")[0] is None
    assert judged(a_counter("estimate")) == (None, "no measured energy is summed")
