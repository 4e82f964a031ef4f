from __future__ import annotations

import dataclasses

import pytest

from slm_energy.derive.energy.crosscheck import CrossCheck, crosschecks
from slm_energy.record import EnergyFigure, SourceKind


def figure(
    domain: str, joules: float | None, *, kind: SourceKind = "counter", summed: bool = False
) -> EnergyFigure:
    """Known to 2 %."""
    return EnergyFigure(
        source_id=f"{domain}/{kind}",
        domain=domain,
        kind=kind,
        window="serve",
        joules=joules,
        low_j=joules and joules * 0.98,
        high_j=joules and joules * 1.02,
        summed=summed,
        pedigree={"device": domain},
    )


def only(*figures: EnergyFigure) -> CrossCheck:
    (found,) = crosschecks(figures)
    return found


def test_a_counter_and_integrated_power_of_one_gpu_are_compared() -> None:
    found = only(figure("gpu", 100, summed=True), figure("gpu", 103, kind="power"))
    assert found.name == "gpu_power_to_counter"
    assert found.ratio == pytest.approx(1.03)
    assert found.low == pytest.approx(103 * 0.98 / 102)
    assert found.high == pytest.approx(103 * 1.02 / 98)
    assert found.agrees(0.05)


@pytest.mark.parametrize("power_j", [60, 175])
def test_they_disagree_when_no_value_within_the_intervals_is_near_one(power_j: float) -> None:
    found = only(figure("gpu", 100, summed=True), figure("gpu", power_j, kind="power"))
    assert not found.agrees(0.05)
    assert found.agrees(0.9)


@pytest.mark.parametrize("whole", ["psys", "wall"])
def test_the_parts_cannot_be_more_than_the_whole(whole: str) -> None:
    parts = figure("cpu_package", 50, summed=True), figure("dram", 10, summed=True)
    assert only(*parts, figure(whole, 90)).agrees(0.05)
    more = only(*parts, figure(whole, 50))
    assert more.name == f"sum_to_{whole}"
    assert more.ratio == pytest.approx(1.2)
    assert not more.agrees(0.05)


def test_the_platform_counter_does_not_see_a_gpu_in_a_slot() -> None:
    parts = figure("cpu_package", 50, summed=True), figure("gpu", 300, summed=True)
    assert only(*parts, figure("psys", 60)).ratio == pytest.approx(50 / 60)
    assert only(*parts, figure("wall", 400)).ratio == pytest.approx(350 / 400)


def test_what_is_unknown_or_seen_once_is_in_no_pair() -> None:
    assert crosschecks([figure("gpu", None, summed=True), figure("gpu", 3, kind="power")]) == ()
    assert crosschecks([figure("cpu_package", 3, summed=True)]) == ()
    assert crosschecks([figure("wall", 3, summed=True)]) == ()


def with_gain(part: EnergyFigure, share: float) -> EnergyFigure:
    assert part.low_j is not None
    assert part.high_j is not None
    low, high = part.low_j * (1 - share), part.high_j * (1 + share)
    return dataclasses.replace(part, low_with_gain_j=low, high_with_gain_j=high)


def test_different_sensors_may_differ_by_the_gain_of_both() -> None:
    part, whole = figure("cpu_package", 112, summed=True), figure("wall", 100)
    assert not only(part, whole).agrees(0)
    assert only(with_gain(part, 0.05), with_gain(whole, 0.05)).agrees(0)


def test_a_counter_made_of_power_shares_its_gain() -> None:
    counter, power = figure("gpu", 100, summed=True), figure("gpu", 103, kind="power")
    found = only(with_gain(counter, 0.05), with_gain(power, 0.05))
    assert found.ratio == pytest.approx(1.03)
    assert found.low == pytest.approx(103 * 0.98 * 0.95 / 102)
    assert found.high == pytest.approx(103 * 1.02 * 1.05 / 98)
