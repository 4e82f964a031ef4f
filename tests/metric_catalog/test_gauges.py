from __future__ import annotations

import pytest

from slm_energy.metric_catalog.catalog import find
from slm_energy.metric_catalog.gauges import GAUGES, stem_and_unit


@pytest.mark.parametrize(
    ("source", "stem", "unit"),
    [
        ("cpu_utilization_percentage", "utilization/cpu", "pct"),
        ("gpu_0_utilization_percentage", "utilization/gpu", "pct"),
        ("gpu_1_sm_clock_megahertz", "utilization/gpu_clock1", "mhz"),
        ("amdgpu_12_temperature_celsius", "thermal/gpu12", "c"),
        ("gpu_0_throttled", "contamination/gpu_throttled", "share"),
        ("gpu_2_foreign_processes", "contamination/gpu_processes2", "count"),
        ("gpu_0_fan_percentage", "gauge/gpu_0_fan_percentage", "value"),
        ("gpu_fan", "gauge/gpu_fan", "value"),
        ("system_memory_usage_percentage", "gauge/system_memory_usage_percentage", "value"),
    ],
)
def test_a_gauge_keeps_the_names_of_its_metrics(source: str, stem: str, unit: str) -> None:
    assert stem_and_unit(source) == (stem, unit)


def test_the_origin_of_a_metric_names_its_gauge() -> None:
    for gauge in GAUGES:
        stem, unit = stem_and_unit(gauge.source.format(index=0))
        definition = find(f"{stem}_mean_{unit}")
        assert definition is not None
        assert definition.origin == f"sampler: gauge {gauge.source.format(index='N')}"


@pytest.mark.parametrize("index", [0, 1, 12])
def test_every_gauge_of_an_amd_gpu_beside_nvidias_is_listed(index: int) -> None:
    nvidias = {gauge.source.format(index=index) for gauge in GAUGES if "{index}" in gauge.source}
    names = {source: stem_and_unit(source) for source in nvidias}
    for source in nvidias:
        stem, unit = stem_and_unit(f"amd{source}", nvidias)
        assert (stem, unit) not in names.values()
        definition = find(f"{stem}_mean_{unit}")
        assert definition is not None
        assert "AMD" in definition.title
