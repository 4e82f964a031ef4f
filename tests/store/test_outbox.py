from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from slm_energy.config.groups import RunConfig
from slm_energy.errors import SlmEnergyError
from slm_energy.places import file_errors
from slm_energy.record import EXCHANGE
from slm_energy.running import trial
from slm_energy.store import artifacts
from slm_energy.store.outbox import Spool
from tests.captures import a_capture
from tests.conftest import a_trial


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


def test_a_record_that_cannot_be_moved_back_whole_is_none_yet(
    tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is still full: another user's sweep must not take half a record for one."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spool = Spool(tmp_path / "pending" / "m1")
    spool.keep_elsewhere(trial.derive(a_trial(config), a_capture(), 0), {})

    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    with monkeypatch.context() as still:
        still.setattr(artifacts, "sync_files", full)
        with pytest.raises(OSError, match="No space left"):
            spool.recover()
    assert list(spool.waiting()) == []
    spool.recover()
    assert [record.outcome.name for _, record in spool.waiting()] == ["valid"]
    assert not list(tmp_path.glob("slm-energy-kept-*"))


def test_what_a_kill_leaves_beside_a_complete_record_is_no_part_of_it(
    tmp_path: Path, config: RunConfig
) -> None:
    spool = Spool(tmp_path / "pending" / "m1")
    asked = a_trial(config)
    folder = spool.new(asked.id)
    spool.keep(trial.derive(asked, a_capture(), 0), folder, {})
    (folder / EXCHANGE).mkdir()
    (folder / EXCHANGE / "package").symlink_to(Path(__file__).parent)
    assert [place for place, _ in spool.waiting()] == [folder]
    assert not (folder / EXCHANGE).exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "pending").write_text("a file")
    with (
        pytest.raises(SlmEnergyError, match=r"cannot use .*/pending: .*tracking\.folder=PATH"),
        file_errors([("tracking.folder", tmp_path)]),
        Spool(tmp_path / "pending" / "m1").held(refuse),
    ):
        pytest.fail("it must not begin")
