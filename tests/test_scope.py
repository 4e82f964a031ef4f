"""What a sum covers, in words and as an identity, and whether it contains what a trial runs on."""

from __future__ import annotations

import dataclasses

import pytest

from slm_energy.record import EnergyFigure, Source
from slm_energy.scope import (
    Part,
    Scope,
    difference,
    lacking,
    of_domains,
    of_figures,
    of_sources,
    refusal,
)
from slm_energy.serialization import from_plain, to_plain


def source(
    domain: str, device: str | None, kind: str = "counter", *, summed: bool = True
) -> Source:
    return Source(
        id=f"{domain}/{device}", kind=kind, domain=domain, unit="uJ", summed=summed, device=device
    )  # type: ignore[arg-type]


PACKAGE, DRAM = source("cpu_package", "package-0"), source("dram", "package-0/dram")
PACKAGE_1, DRAM_1 = source("cpu_package", "package-1"), source("dram", "package-1/dram")
GPU = source("gpu", "GPU-1 NVIDIA H100")
GPU_2 = source("gpu", "GPU-2 NVIDIA H100")


def scope(*sources: Source) -> Scope:
    found = of_sources(sources)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        (
            (PACKAGE, DRAM, GPU),
            "processor package and DRAM of 1 socket, 1 GPU (NVIDIA H100)",
        ),
        (
            (PACKAGE, DRAM, PACKAGE_1, DRAM_1, GPU, GPU_2),
            "processor package and DRAM of 2 sockets, 2 GPUs (NVIDIA H100)",
        ),
        ((PACKAGE,), "processor package of 1 socket; memory not included"),
        ((PACKAGE, PACKAGE_1, DRAM), "processor package of 2 sockets, DRAM of 1 socket"),
        ((GPU,), "GPU only: 1 GPU (NVIDIA H100); processors and memory not included"),
        ((source("psys", "psys"), GPU), "1 GPU (NVIDIA H100), platform (psys)"),
        ((source("wall", "192.0.2.7"),), "whole machine at the wall"),
        (
            (source("cpu_package", "package-0"), DRAM, source("npu", "npu0")),
            "processor package and DRAM of 1 socket, 1 npu device (npu0)",
        ),
        (
            (source("machine", None, "estimate", summed=False),),
            "a model's estimate of the whole machine, nothing measured",
        ),
    ],
)
def test_a_scope_in_words(sources: tuple[Source, ...], words: str) -> None:
    assert scope(*sources).words == words


def test_nothing_summed_has_no_scope() -> None:
    assert of_sources([]) is None
    gauge = source("gpu_utilization", "GPU-1", "gauge", summed=False)
    assert of_sources([gauge, dataclasses.replace(GPU, summed=False)]) is None


def test_an_estimate_beside_a_sensor_is_not_part_of_the_scope() -> None:
    estimate = source("machine", None, "estimate", summed=False)
    assert scope(GPU, estimate) == scope(GPU)


def test_the_identity_is_that_of_the_devices_not_of_order_product_names_or_interfaces() -> None:
    named_otherwise = source("gpu", "GPU-1 NVIDIA H100 80GB HBM3")
    die = source("cpu_package", "package-0-die-0")
    assert scope(PACKAGE, GPU).digest == scope(GPU, PACKAGE).digest
    assert scope(PACKAGE, named_otherwise).digest == scope(PACKAGE, GPU).digest
    assert scope(PACKAGE, GPU_2).digest != scope(PACKAGE, GPU).digest
    assert scope(die).digest == scope(PACKAGE).digest
    assert scope(source("wall", "192.0.2.7")) == scope(source("wall", "192.0.2.8"))


def test_figures_of_the_serve_window_have_the_scope_of_their_sources() -> None:
    figures = [
        EnergyFigure(
            source_id=one.id,
            domain=one.domain,
            kind=one.kind,
            window=window,
            joules=1.0,
            low_j=1.0,
            high_j=1.0,
            summed=one.summed,
            pedigree={"device": one.device},
        )
        for one in (PACKAGE, DRAM, GPU)
        for window in ("serve", "load")
    ]
    total = dataclasses.replace(figures[0], source_id="total", domain="total", summed=False)
    assert of_figures([*figures, total]) == scope(PACKAGE, DRAM, GPU)
    assert of_figures([figure for figure in figures if figure.window == "load"]) is None


def test_json_brings_a_scope_back() -> None:
    there = scope(PACKAGE, DRAM, GPU)
    assert from_plain(Scope, to_plain(there)) == there


def test_what_differs_is_named_by_device() -> None:
    both, gpu = scope(PACKAGE, DRAM, GPU), scope(GPU)
    assert difference(both, gpu) == "no longer: cpu_package package-0, dram package-0"
    assert difference(gpu, scope(GPU_2)) == "no longer: gpu GPU-1; new: gpu GPU-2"
    assert difference(gpu, gpu) == ""
    assert difference(scope(source("machine", None)), scope(ESTIMATE)) == (
        "measured before, estimated now"
    )


ESTIMATE = source("machine", None, "estimate", summed=False)


def test_nodes_of_a_cluster_are_alike_if_their_devices_are() -> None:
    here, there = scope(PACKAGE, GPU), scope(PACKAGE, GPU_2)
    assert here.of_any_node() == there.of_any_node()
    assert scope(PACKAGE, GPU, GPU_2).of_any_node() != here.of_any_node()
    other = source("gpu", "GPU-3 NVIDIA A10")
    assert scope(PACKAGE, other).of_any_node() != here.of_any_node()
    assert here.of_any_node().words == here.words


def test_a_scope_without_recorded_devices_says_so() -> None:
    old = of_domains(["gpu", "cpu_package"])
    assert old.words == "cpu_package, gpu (devices not recorded)"
    assert old.parts == (Part(domain="cpu_package", device=""), Part(domain="gpu", device=""))
    assert old.digest != scope(PACKAGE, GPU).digest


@pytest.mark.parametrize(
    ("provider", "enough", "too_little"),
    [
        ("cpu", ["cpu_package", "psys", "machine", "wall"], ["gpu", "dram", "cpu_core"]),
        ("openvino_npu", ["cpu_package", "psys", "machine", "wall"], ["gpu", "dram"]),
        ("cuda", ["gpu", "machine", "wall"], ["cpu_package", "psys", "dram"]),
        ("tensorrt", ["gpu", "machine", "wall"], ["cpu_package", "psys"]),
        ("a_vendors_own", ["gpu", "wall", "a_vendors_own"], ["cpu_package", "psys"]),
        ("openvino_gpu", ["gpu", "cpu_package", "psys", "wall"], ["dram"]),
    ],
)
def test_the_device_of_the_provider_must_be_in_the_sum(
    provider: str, enough: list[str], too_little: list[str]
) -> None:
    assert [domain for domain in enough if lacking([domain], provider)] == []
    assert [domain for domain in too_little if not lacking([domain], provider)] == []
    assert lacking(too_little, provider) is not None
    assert lacking([*too_little, enough[0]], provider) is None


def test_an_integrated_gpu_is_in_the_package_and_a_discrete_one_is_not() -> None:
    for kind, domain, other in (
        ("integrated", "cpu_package", "dram"),
        ("discrete", "gpu", "cpu_package"),
    ):
        assert lacking([domain], "openvino_gpu", {"device_type": kind}) is None
        assert lacking([other], "openvino_gpu", {"device_type": kind}) == "GPU"


def test_a_refusal_names_the_device_the_sum_the_cause_and_the_remedy() -> None:
    notes = ("rapl: energy_uj cannot be read (EACCES): sudo chmod a+r FILE", "nvml: another note")
    line = refusal(scope(GPU), "cpu", "processor", notes)
    assert line.startswith("provider=cpu computes on the processor, which is not in the sum (GPU")
    assert "sudo chmod a+r FILE" in line
    assert "another note" not in line
    assert "measurement=wall" in line
    assert "\n" not in line
    assert "nvml: another note" in refusal(scope(PACKAGE), "cuda", "GPU", notes)
