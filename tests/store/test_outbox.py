from __future__ import annotations

from pathlib import Path

import pytest

from slm_energy.errors import SlmEnergyError
from slm_energy.places import file_errors
from slm_energy.store.outbox import Spool


class Refused(Exception):
    pass


def refuse(path: Path) -> None:
    raise Refused(path)


def test_records_that_wait_are_one_sweeps_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "pending" / "m1"
    with (
        Spool(folder).held(refuse),
        pytest.raises(Refused, match=str(folder)),
        Spool(folder).held(refuse),
    ):
        pytest.fail("it must not begin")
    with Spool(folder).held(refuse):
        assert Spool(folder).unfinished() == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "pending").write_text("a file")
    with (
        pytest.raises(SlmEnergyError, match=r"cannot use .*/pending: .*tracking\.folder=PATH"),
        file_errors([("tracking.folder", tmp_path)]),
        Spool(tmp_path / "pending" / "m1").held(refuse),
    ):
        pytest.fail("it must not begin")
