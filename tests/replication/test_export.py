"""What a package has, and what it never has."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from slm_energy.cell import cell_id
from slm_energy.config.groups import RunConfig, TrackingConfig
from slm_energy.errors import AnalysisError, ConfigError, SlmEnergyError, TrackingError
from slm_energy.replication import anonymize, archive
from slm_energy.replication.export import export
from slm_energy.replication.verify import verify
from slm_energy.running import trial
from slm_energy.running.scoring import score_study
from slm_energy.store import artifacts
from slm_energy.store.tracking import Store
from tests.captures import a_capture
from tests.conftest import Command, a_cell, a_trial, ready_store, trials
from tests.replication.conftest import OPTIONS, STUDY


def test_two_exports_of_a_study_are_the_same_bytes(store: Store, tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        options = dataclasses.replace(OPTIONS, out=str(tmp_path / name / "package"), zip=True)
        made.append(export(store, options, {"study": STUDY}, tmp_path / "pending"))
    one, two = made
    assert one.place.read_bytes() == two.place.read_bytes()
    assert (one.digest, one.trials) == (two.digest, 6)
    assert verify(one.place).differences == ()


def test_its_files_are_those_that_sha256sum_checks(packed: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--quiet", archive.MANIFEST], cwd=packed, check=False
    )
    assert done.returncode == 0


def test_it_says_what_it_is_and_how_to_check_it(packed: Path) -> None:
    readme = (packed / "README.md").read_text()
    assert "6 trials of the study `paper` on machine-1" in readme
    assert "slm-energy verify ." in readme
    assert "Data: CC-BY-4.0" in readme
    assert "energy per output token" in readme
    assert "# python==" in (packed / "environment" / "engine-scripted.txt").read_text()
    assert "mlflow==" in (packed / "environment" / "sweeps.txt").read_text()
    assert "of 38 items are met" in (packed / "checklist.md").read_text()
    assert "- name: Ada Lovelace" in (packed / "CITATION.cff").read_text()


@pytest.fixture
def personal(tmp_path: Path, empty_store: Path, config: RunConfig) -> Store:
    """A study of a person: names in paths, in the log and in what was generated."""
    ready_store(tmp_path / "mlruns", empty_store)
    store = Store(TrackingConfig(name="local", folder=str(tmp_path / "mlruns")))
    for number in (1, 2):
        cell = a_cell(config, workload=dataclasses.replace(config.workload, new_tokens=3 + number))
        name = cell_id(cell.settings, cell.model_digest, cell.workload_digest, cell.versions)
        cell = dataclasses.replace(cell, id=name)
        request = a_trial(
            config, id=f"t{number}", cell=cell, order=number, label=f"cell {number}",
            cache_path="/home/grace/.cache/slm_energy", model_path="/data/grace/model",
        )  # fmt: skip
        capture = a_capture()
        [first, *others] = capture.generations
        said = dataclasses.replace(first, text="# author: grace, on node7")
        capture = dataclasses.replace(
            capture,
            environment={"python": "3.11", "hostname": "node7"},
            generations=(said, *others),
        )
        record = trial.derive(request, capture, time.time_ns())
        folder = tmp_path / f"record{number}"
        folder.mkdir()
        (folder / "worker.log").write_text(
            "loading /home/grace/x, built by /home/linus\nmirror https://grace:pa55@mirror.example/simple\n"
        )
        artifacts.write(folder, record, {"a": "def f(): # by grace", "b": "b"})
        parent = store.open_sweep("test", "s1", "node7-a1b2c3", "by grace")
        store.store(record, folder, parent, "node7-a1b2c3")
    lost = trial.failed(a_trial(config, id="t3", cell=cell, round=2), "grace stopped it", 2)
    folder = tmp_path / "record3"
    folder.mkdir()
    artifacts.write(folder, lost, {})
    store.store(lost, folder, parent, "node7-a1b2c3")
    return store


def test_no_name_of_a_person_host_or_machine_is_in_it(personal: Store, tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, out=str(tmp_path / "package"))
    done = export(personal, options, {"study": "test"}, tmp_path / "pending")
    names = archive.files_below(done.place)
    texts = [*names, *(t for name in names for t in anonymize.texts_in(done.place / name))]
    assert not [
        text for text in texts for name in ("grace", "linus", "node7", "pa55") if name in text
    ]
    assert done.replaced is not None
    assert done.place not in done.replaced.parents
    replaced = json.loads(done.replaced.read_text())
    assert replaced["names of users"] == {"grace": "user", "linus": "user"}
    assert done.replaced.stat().st_mode & 0o077 == 0


def test_a_copy_of_its_records_can_be_sent_to_a_store(
    packed: Path, tmp_path: Path, slm_energy: Command
) -> None:
    shutil.copytree(packed / "records", tmp_path / "records")
    done = slm_energy("sync", "records", quick=False)
    assert done.returncode == 0, done.stderr
    assert len(trials(tmp_path, STUDY)) == 6


def test_a_study_of_an_older_version_is_computed_again_and_the_package_says_so(
    tmp_path: Path,
) -> None:
    shutil.unpack_archive(Path(__file__).parents[1] / "data" / "before.tar.xz", tmp_path)
    store = Store(TrackingConfig(name="local", folder=str(tmp_path / "mlruns")))
    options = dataclasses.replace(OPTIONS, out=str(tmp_path / "package"))
    done = export(store, options, {"study": "before"}, tmp_path / "pending")
    assert "6 trials were stored by another version" in done.changes[0]
    assert done.changes[0] in (done.place / "README.md").read_text()
    assert verify(done.place).differences == ()


def test_a_package_for_double_blind_review_has_no_authors(store: Store, tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, out=str(tmp_path / "package"), anonymize=True)
    done = export(store, options, {"study": STUDY}, tmp_path / "pending")
    assert "Lovelace" not in "".join(
        (done.place / name).read_text() for name in ("README.md", "CITATION.cff", "package.json")
    )


@pytest.mark.usefixtures("own_lock")
def test_scores_that_were_added_later_are_in_it(store_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(store_folder, tmp_path / "mlruns")
    store = Store(TrackingConfig(name="local", folder=str(tmp_path / "mlruns")))
    score_study(
        store, STUDY, tmp_path / "cache", isolated=False, progress=lambda *_: None, busy=print
    )
    options = dataclasses.replace(OPTIONS, out=str(tmp_path / "package"))
    done = export(store, options, {"study": STUDY}, tmp_path / "pending")
    for path in done.place.glob("records/*/*"):
        if path.is_dir():
            record = artifacts.read(path)
            assert len(record.scores) == record.metrics["quality/scored_count"] == 3
    assert verify(done.place).differences == ()


@pytest.mark.parametrize(
    ("changes", "report", "why"),
    [
        ({"authors": ()}, {}, r"a package needs authors=\['Ada Lovelace'\]: add"),
        ({"data_license": None}, {}, "a package needs data_license=CC-BY-4.0"),
        ({"out": None, "authors": ()}, {}, "needs out=DIR and authors="),
        ({}, {"study": "other"}, "study='other' is not in"),
        ({}, {"machine": "elsewhere"}, "machine=elsewhere"),
    ],
    ids=["authors", "licence", "out", "study", "machine"],
)
def test_what_is_missing_is_said_and_nothing_is_written(
    changes: dict[str, object], report: dict[str, str], why: str, store: Store, tmp_path: Path
) -> None:
    options = dataclasses.replace(OPTIONS, **{"out": str(tmp_path / "package")} | changes)  # type: ignore[arg-type]
    with pytest.raises(SlmEnergyError, match=why):
        export(store, options, {"study": STUDY, **report}, tmp_path / "pending")
    assert list(tmp_path.iterdir()) == []


def test_a_package_does_not_replace_what_is_there(store: Store, packed: Path) -> None:
    options = dataclasses.replace(OPTIONS, out=str(packed))
    with pytest.raises(ConfigError, match="exists: remove it"):
        export(store, options, {"study": STUDY}, packed)


def test_records_that_were_not_sent_yet_are_asked_for(
    store: Store, tmp_path: Path, config: RunConfig
) -> None:
    record = trial.derive(a_trial(config, study=STUDY), a_capture(), time.time_ns())
    folder = tmp_path / "pending" / "here" / record.trial.id
    folder.mkdir(parents=True)
    artifacts.write(folder, record, {})
    options = dataclasses.replace(OPTIONS, out=str(tmp_path / "package"))
    with pytest.raises(TrackingError, match=r"1 records of study=paper wait .* slm-energy sync"):
        export(store, options, {"study": STUDY}, tmp_path / "pending")


def test_a_study_of_several_machines_asks_which(
    personal: Store, tmp_path: Path, config: RunConfig
) -> None:
    record = trial.derive(a_trial(config, id="t9"), a_capture(), time.time_ns())
    folder = tmp_path / "record9"
    folder.mkdir()
    artifacts.write(folder, record, {})
    personal.store(record, folder, personal.open_sweep("test", "s2", "other-1", ""), "other-1")
    options = dataclasses.replace(OPTIONS, out=str(tmp_path / "package"))
    with pytest.raises(AnalysisError, match="choose one with machine=node7-a1b2c3"):
        export(personal, options, {"study": "test"}, tmp_path / "pending")
    report = {"study": "test", "machine": "node7-a1b2c3"}
    done = export(personal, options, report, tmp_path / "pending")
    assert done.trials == 3
    assert verify(done.place).differences == ()


def test_the_registration_of_a_study_is_in_it(
    store_folder: Path, store: Store, tmp_path: Path, slm_energy: Command
) -> None:
    words = ["study.name=paper", f"tracking.folder={store_folder}", "engine=scripted"]
    done = slm_energy("plan", *words, "--register", "registration.yaml")
    assert done.returncode == 0, done.stderr
    options = dataclasses.replace(OPTIONS, out=str(tmp_path / "package"))
    file, report = tmp_path / "registration.yaml", {"study": STUDY}
    made = export(store, options, report, tmp_path / "pending", registration=file)
    assert "its registration of" in (made.place / "report" / "report.md").read_text()
    assert verify(made.place).differences == ()
    (made.place / "registration.yaml").unlink()
    archive.write_manifest(made.place)
    assert verify(made.place).differences
    with pytest.raises(ConfigError, match="registration=nowhere cannot be read"):
        export(
            store,
            dataclasses.replace(OPTIONS, out=str(tmp_path / "more")),
            report,
            tmp_path / "pending",
            registration=Path("nowhere"),
        )
