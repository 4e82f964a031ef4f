"""Every sensor, every fault, every place: a figure is right or refused with a reason, never wrong.

What `faults.undetectable` lists is left out: readings of one power sensor that are, column for
column, those of another load.
"""

import time
import typing
from dataclasses import replace
from pathlib import Path

import pytest

from slm_energy.config.groups import MeasurementConfig
from slm_energy.derive.energy.accounting import account
from slm_energy.meters.base import ReadFailed
from slm_energy.meters.rapl import open_rapl
from slm_energy.record import EnergyFigure, Series, Window
from slm_energy.testing.faults import FAULTS, PLACES, applies, break_at, judge, undetectable
from slm_energy.testing.powercap import Fault, PowercapTree, Zone
from slm_energy.testing.scenes import SCENES, record
from slm_energy.testing.waveform import Waveform
from tests.benchmark import load
from tests.metering import sources

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
S, MS = 10**9, 10**6
ROOMY, TIGHT = 15, 0

HARMLESS = ("EACCES", "ENOENT", "EIO", "empty", "garbage", "negative", "stale")
"""One such reading in the middle costs nothing: the readings around it know everything."""


def figure_of(recording):
    return account(recording.series, recording.window, max_gap_ns=S)


def verdicts(scene):
    """(spare, fault, place) to verdict and figure, for all that can be told."""
    return {
        (spare, fault, place): (judge(broken, figure := figure_of(broken)), figure, broken.truth_j)
        for spare in (ROOMY, TIGHT)
        for recording in [record(scene, spare=spare)]
        for fault in FAULTS
        for place in PLACES
        if applies(recording, fault, place) and not undetectable(scene, fault, place)
        for broken in [break_at(recording, fault, place)]
    }


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_no_fault_gives_a_wrong_figure(scene):
    found = verdicts(scene)
    wrong = [
        f"{fault} at {place}, {spare} spare readings: {figure.joules} J in [{figure.low_j},"
        f" {figure.high_j}], the truth is {truth_j}"
        for (spare, fault, place), (verdict, figure, truth_j) in found.items()
        if verdict == "wrong"
    ]
    assert wrong == []
    # Refusing everything would pass the line above.
    for fault in HARMLESS:
        assert found[ROOMY, fault, "middle"][0] == "right", fault


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_without_a_fault_the_figure_is_right(scene):
    for seed in range(5):
        recording = record(scene, spare=ROOMY, seed=seed)
        assert judge(recording, figure_of(recording)) == "right"


def test_the_matrix_is_large():
    cells = [
        1
        for scene in SCENES
        for recording in [record(scene, spare=ROOMY)]
        for fault in FAULTS
        for place in PLACES
        if applies(recording, fault, place) and not undetectable(scene, fault, place)
    ]
    assert len(cells) >= 300


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_a_fault_shows_in_the_readings(scene):
    recording = record(scene, spare=ROOMY)
    for fault in FAULTS:
        for place in PLACES:
            # Two readings of one publication are equal anyway, and so may be two of power.
            if applies(recording, fault, place) and fault not in ("stale", "frozen"):
                assert break_at(recording, fault, place).series != recording.series, (fault, place)


def test_what_is_undetectable_is_power_that_could_be_true():
    left_out = {
        (fault, place)
        for scene in SCENES
        for fault in FAULTS
        for place in PLACES
        if undetectable(scene, fault, place)
        if scene.source.kind == "counter"
    }
    assert left_out == {("spike", "all"), ("truncated", "all")}


# --- the judge --------------------------------------------------------------------------------


def judged(low_j, joules, high_j, reasons=()):
    recording = replace(record(SCENES[0], spare=TIGHT), truth_j=100.0)
    figure = EnergyFigure(
        source_id="x",
        domain="cpu_package",
        kind="counter",
        window="serve",
        joules=joules,
        low_j=low_j,
        high_j=high_j,
        summed=True,
        reasons=reasons,
    )
    return judge(recording, figure)


def test_right_is_close_and_inside_the_interval():
    assert judged(99, 101, 102) == "right"
    assert judged(100.5, 101, 102) == "wrong"
    assert judged(90, 110, 120) == "wrong"


def test_refused_needs_a_reason():
    assert judged(None, None, None, ("EIO",)) == "refused"
    assert judged(None, None, None) == "wrong"
    assert judged(1.0, None, None, ("EIO",)) == "wrong"


# --- real files, scripted time ----------------------------------------------------------------


def test_the_script_that_other_tools_get_gives_no_wrong_figure(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    benchmark = load("fault_matrix")
    verdicts = {
        (case.fault, case.place): benchmark.ours(case, tmp_path / str(number)).verdict
        for number, case in enumerate(benchmark.cases())
    }
    assert set(verdicts.values()) == {"right", "refused"}
    assert verdicts["none", ""] == verdicts["one wrap", "middle"] == "right"


# --- real files, real time --------------------------------------------------------------------

FILE_FAULTS = typing.get_args(Fault)
LOAD = Waveform(steps=((70 * MS, 4_000), (110 * MS, 9_000)))
STEPS, STEP_S = 60, 0.02
OPENING, CLOSING = 10, 50
MIDDLE = (OPENING + CLOSING) // 2
PLACES_OF_FILES = {
    "first": range(OPENING, OPENING + 1),
    "middle": range(MIDDLE, MIDDLE + 1),
    "last": range(CLOSING, CLOSING + 1),
    "all": range(STEPS),
}
RANGE_UJ = 5_000_000_000
FIRST_UJ = RANGE_UJ - 5_000_000
"""Counters wrap after some 0.7 s, within the window. So near to it, a reset would pass for one."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(fault, place) to its figure and the truth: all cells at once, a zone for each.

    The real meter reads the real files of one tree, whose zones are broken and mended on the way.
    """
    cells = [(fault, place) for fault in FILE_FAULTS for place in PLACES_OF_FILES]
    root = tmp_path_factory.mktemp("powercap")
    zones = [
        Zone(
            folder=f"intel-rapl:{number}",
            name=f"package-{number}",
            waveform=LOAD,
            range_uj=RANGE_UJ,
            # A little apart, or they would be copies of one counter.
            first_uj=number * 10_000 + (RANGE_UJ // 2 if fault == "reset" else FIRST_UJ),
        )
        for number, (fault, _) in enumerate(cells)
    ]
    with PowercapTree(root, zones) as tree:
        meter = open_rapl(MeasurementConfig(name="faults", powercap_root=str(root))).meter
        rows = {source.path: [] for source in sources(meter)}
        for step in range(STEPS):
            time.sleep(STEP_S)
            for zone, (fault, place) in zip(zones, cells, strict=True):
                hit = PLACES_OF_FILES[place]
                if step == hit.start:
                    tree.set_fault(zone.folder, fault)
                elif step == hit.stop:
                    tree.set_fault(zone.folder, None)
            for channel in meter.channels:
                rows[channel.source.path].append(row(channel))
        published_s = tree.longest_pause_s
        meter.close()
    by_folder = {source.path.split("/")[-2]: source for source in sources(meter)}
    return {
        cell: file_figure(by_folder[zone.folder], rows, published_s)
        for cell, zone in zip(cells, zones, strict=True)
    }


def row(channel):
    before_ns = time.monotonic_ns()
    try:
        return before_ns, channel.read(), time.monotonic_ns(), None
    except ReadFailed as failure:
        return before_ns, None, time.monotonic_ns(), str(failure)


def file_figure(source, rows, published_s):
    """The figure of a window between the opening and the closing row, and the truth."""
    before, raw, after, errors = zip(*rows[source.path], strict=True)
    # The tree's thread shares the processor with this test: it publishes when it can.
    source = replace(source, update_period_ns=round(published_s * S))
    series = Series(
        source=source,
        before_ns=before,
        raw=raw,
        after_ns=after,
        errors={str(row): error for row, error in enumerate(errors) if error},
    )
    end_ns = before[CLOSING] - 2 * source.update_period_ns
    window = Window(name="serve", start_ns=after[OPENING] + MS, end_ns=end_ns)
    return account(series, window, max_gap_ns=S), LOAD.joules(window.start_ns, window.end_ns)


@pytest.mark.parametrize("place", PLACES_OF_FILES)
@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_a_broken_file_gives_no_wrong_figure(files, fault, place):
    figure, truth_j = files[fault, place]
    if figure.joules is None:
        assert figure.reasons
    else:
        assert figure.low_j <= truth_j <= figure.high_j
        assert figure.joules == pytest.approx(truth_j, rel=0.1)


@pytest.mark.parametrize("fault", ["denied", "missing", "unreadable", "io_error", "empty"])
def test_a_file_that_fails_once_costs_nothing(files, fault):
    figure, truth_j = files[fault, "middle"]
    assert figure.joules == pytest.approx(truth_j, rel=0.1)
    assert figure.pedigree["failed"] == 1
