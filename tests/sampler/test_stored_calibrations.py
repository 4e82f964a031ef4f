"""Calibrations are kept for this machine, and given to the sources they were made of."""

import dataclasses

import pytest

from slm_energy.errors import MeterError
from slm_energy.record import Calibration, Fitted, Source
from slm_energy.sampler import stored_calibrations
from slm_energy.sampler.stored_calibrations import StoredCalibration, calibrated, place, store

SOURCE = Source(
    id="hwmon/xe/0000:03:00.0/energy1",
    kind="counter",
    domain="gpu",
    unit="uJ",
    device="0000:03:00.0 card",
    path="/sys/class/hwmon/hwmon3/energy1_input: the whole card",
)
OTHER = dataclasses.replace(SOURCE, id="rapl/intel-rapl:0", device="package-0")


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def entry(source, gain=0.9):
    return StoredCalibration(
        source=source.id,
        device=source.device,
        path=source.path,
        relation="same",
        calibration=Calibration(
            reference="wall/power",
            unix_ns=1_795_900_000_000_000_000,
            gain=Fitted(low=gain - 0.01, best=gain, high=gain + 0.01),
            offset_w=Fitted(low=-1.0, best=0.0, high=1.0),
            lag_s=Fitted(low=0.0, best=0.1, high=0.2),
        ),
    )


def gain_of(source):
    ((known,), _) = calibrated([source])
    return known.calibration and known.calibration.gain.best


def test_without_a_file_no_source_is_calibrated():
    assert calibrated([SOURCE, OTHER]) == ((SOURCE, OTHER), ())


def test_a_source_gets_its_own_and_a_note_says_so():
    file = store([entry(SOURCE)])
    assert file == place()
    sources, notes = calibrated([OTHER, SOURCE])
    assert sources == (
        OTHER,
        dataclasses.replace(SOURCE, calibration=entry(SOURCE).calibration),
    )
    assert notes == (f"{SOURCE.id}: calibrated against wall/power on 2026-11-28",)


def test_a_new_calibration_replaces_that_of_the_same_source_only():
    store([entry(SOURCE, 0.9), entry(OTHER, 0.8)])
    store([entry(SOURCE, 0.95)])
    assert (gain_of(SOURCE), gain_of(OTHER)) == (0.95, 0.8)


def test_the_number_of_a_hwmon_folder_may_change():
    store([entry(SOURCE)])
    moved = dataclasses.replace(SOURCE, path=SOURCE.path.replace("hwmon3", "hwmon5"))
    assert gain_of(moved) == 0.9


@pytest.mark.parametrize("changes", [{"device": "0000:03:00.0 pkg"}, {"path": "another driver"}])
def test_a_source_that_is_another_device_or_read_in_another_way_is_not_calibrated(changes):
    store([entry(SOURCE)])
    sources, (note,) = calibrated([dataclasses.replace(SOURCE, **changes)])
    assert sources[0].calibration is None
    assert "which is not used: it was 0000:03:00.0 card then" in note
    assert note.endswith("run slm-energy calibrate again")


def test_another_processor_has_no_calibration(monkeypatch):
    store([entry(SOURCE)])
    monkeypatch.setattr(stored_calibrations, "processor", lambda: "another processor")
    assert gain_of(SOURCE) is None


def test_another_machine_has_no_calibration(monkeypatch):
    store([entry(SOURCE)])
    monkeypatch.setattr(stored_calibrations, "machine_id", lambda: "other-123456")
    assert gain_of(SOURCE) is None


NEWER = '{"machine": "m", "processor": "p", "sources": [], "schema": 2}'


@pytest.mark.parametrize("text", ["", "{", '{"machine": "m"}', NEWER])
def test_a_damaged_file_is_named_with_the_remedy(text):
    place().parent.mkdir(parents=True)
    place().write_text(text)
    with pytest.raises(MeterError, match=r"cannot be read .*: remove the file") as error:
        calibrated([SOURCE])
    assert str(place()) in str(error.value)
