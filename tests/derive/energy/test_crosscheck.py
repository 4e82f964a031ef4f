from __future__ import annotations

import dataclasses
import math

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


def test_a_calibrated_interval_does_not_exclude_what_is_shown() -> None:
    """The ratio is of joules as shown; those of the part are calibrated 20 % lower."""
    part, whole = figure("cpu_package", 90, summed=True), figure("wall", 100)
    shifted = dataclasses.replace(part, low_with_gain_j=70.0, high_with_gain_j=74.0)
    found = only(shifted, whole)
    assert found.low == pytest.approx(70 / 102)
    assert found.high == pytest.approx(90 * 1.02 / 98)
    raised = dataclasses.replace(part, low_with_gain_j=95.0, high_with_gain_j=110.0)
    assert only(raised, whole).low == pytest.approx(90 * 0.98 / 102)
    assert only(raised, whole).high == pytest.approx(110 / 98)


def test_half_a_gain_is_no_gain() -> None:
    part, whole = figure("cpu_package", 90, summed=True), figure("wall", 100)
    half = dataclasses.replace(part, low_with_gain_j=10.0)
    assert only(half, whole).low == pytest.approx(90 * 0.98 / 102)


def test_a_whole_that_may_be_nothing_bounds_no_ratio() -> None:
    part, whole = figure("cpu_package", 50, summed=True), figure("wall", 60)
    unsure = dataclasses.replace(whole, low_j=0.0)
    found = only(part, unsure)
    assert found.high == math.inf
    assert found.low == pytest.approx(50 * 0.98 / (60 * 1.02))


def test_two_devices_have_a_ratio_each() -> None:
    each = [
        dataclasses.replace(made, pedigree={"device": gpu}, source_id=f"{gpu} {made.kind}")
        for gpu in ("one", "two", "three")
        for made in (figure("gpu", 100, summed=True), figure("gpu", 101, kind="power"))
    ]
    names = [check.name for check in crosschecks(each)]
    assert names == [f"gpu_power_to_counter{end}" for end in ("", "_1", "_2")]


@pytest.mark.parametrize(("part_j", "agrees"), [(102, True), (104, True), (112, False)])
def test_a_part_may_be_as_large_as_the_tolerance_allows(part_j: float, agrees: bool) -> None:
    found = only(figure("cpu_package", part_j, summed=True), figure("wall", 100))
    assert found.agrees(0.05) == agrees
    low = CrossCheck(name="", ratio=1.0, low=1.05, high=2.0, equal=True)
    assert low.agrees(0.05)
    high = CrossCheck(name="", ratio=0.9, low=0.8, high=0.95, equal=True)
    assert high.agrees(0.05)
    assert not high.agrees(0.04)
    assert dataclasses.replace(high, equal=False).agrees(0.04)
