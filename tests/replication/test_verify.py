"""What was changed in a package is found, also by someone who makes a new manifest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from slm_energy.errors import ConfigError
from slm_energy.replication import archive
from slm_energy.replication.package import ABOUT
from slm_energy.replication.verify import Verification, verify
from slm_energy.store.offline import SWEEP_SUFFIX


def test_an_untouched_package_is_verified_wherever_it_is(package: Path) -> None:
    found = verify(package)
    assert found.differences == ()
    assert (found.study, found.trials) == ("paper", 6)
    assert found.recomputed > 60
    assert not found.other_code


def a_trial(package: Path, number: int = 2) -> Path:
    """The folder of a record."""
    return sorted(package.glob("records/*/*/record.json"))[number].parent


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def reading(package: Path) -> None:
    """One reading of the counter within the serve window, by 1 J."""
    path = a_trial(package, 0) / "capture" / "readings.parquet"
    record = json.loads((a_trial(package, 0) / "record.json").read_text())
    serve = record["capture"]["windows"][-1]
    table = pyarrow.parquet.read_table(path).to_pylist()
    inside = [
        row
        for row in table
        if row["source"].endswith(":0") and serve["start_ns"] < row["before_ns"] < serve["end_ns"]
    ]
    inside[-1]["raw_int"] += 10**6
    schema = pyarrow.parquet.read_schema(path)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table, schema), path)


def token(package: Path) -> None:
    path = a_trial(package, 1) / "capture" / "generations.parquet"
    table = pyarrow.parquet.read_table(path).to_pylist()
    table[1]["output_ids"][2] += 1
    schema = pyarrow.parquet.read_schema(path)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table, schema), path)


def outcome(package: Path) -> None:
    def invalid(record: Any) -> None:
        record["outcome"] = {"name": "invalid", "reasons": ["a bad day"], "permanent": False}

    edit(a_trial(package, 2) / "record.json", invalid)


def metric(package: Path) -> None:
    def cheaper(record: Any) -> None:
        record["metrics"]["energy/per_output_token_j"] *= 0.99

    edit(a_trial(package, 3) / "record.json", cheaper)


def setting(package: Path) -> None:
    def more(record: Any) -> None:
        record["trial"]["cell"]["settings"]["workload"]["new_tokens"] += 1

    edit(a_trial(package, 4) / "record.json", more)


def page(package: Path) -> None:
    path = package / "report" / "report.md"
    text = path.read_text()
    assert "2 " in text
    path.write_text(text.replace("2 ", "3 ", 1))


def table(package: Path) -> None:
    path = next((package / "report" / "tables").glob("*-pairs.tex"))
    path.write_text(path.read_text().replace("1", "2", 1))


def comparison(package: Path) -> None:
    def better(report: Any) -> None:
        report["metrics"][0]["families"][0]["pairs"][0]["ratio"] *= 1.0001

    edit(package / "report" / "comparisons.json", better)


def row(package: Path) -> None:
    path = package / "report" / "trials.parquet"
    rows = pyarrow.parquet.read_table(path).to_pandas()
    rows.loc[3, "latency/e2e_p50_s"] *= 1.001
    rows.to_parquet(path, index=False)


def readme(package: Path) -> None:
    path = package / "README.md"
    path.write_text(path.read_text().replace("6 trials", "60 trials"))


def plan(package: Path) -> None:
    def other_seed(sweep: Any) -> None:
        content = json.loads(sweep["files"]["plan.json"])
        content["frozen"]["facts"]["study.seed"] = "7"
        sweep["files"]["plan.json"] = json.dumps(content)

    edit(next(package.glob(f"records/*/*{SWEEP_SUFFIX}")), other_seed)


def one_less(package: Path) -> None:
    (a_trial(package, 5) / "checks.json").unlink()


IN_RECORDS = {
    reading: "energy.json",
    token: "record.json",
    outcome: "record.json",
    metric: "record.json",
    setting: "record.json",
}
IN_OTHER_FILES = {
    page: "report/report.md",
    table: "-pairs.tex",
    comparison: "report/comparisons.json",
    row: "report/trials.parquet",
    readme: "README.md",
    plan: SWEEP_SUFFIX,
    one_less: "checks.json",
}


def test_what_was_changed_in_a_record_is_found_even_with_a_new_manifest(package: Path) -> None:
    for tamper in IN_RECORDS:
        tamper(package)
    archive.write_manifest(package)
    found = verify(package)
    for number, (tamper, file) in enumerate(IN_RECORDS.items()):
        assert named(found, f"{a_trial(package, number).name}/{file}"), tamper


def test_what_was_changed_elsewhere_is_found_even_with_a_new_manifest(package: Path) -> None:
    for tamper in IN_OTHER_FILES:
        tamper(package)
    archive.write_manifest(package)
    found = verify(package)
    assert all(named(found, file) for file in IN_OTHER_FILES.values())


def test_a_trial_that_is_gone_is_missed_by_the_report(package: Path) -> None:
    shutil.rmtree(a_trial(package))
    archive.write_manifest(package)
    assert named(verify(package), "report/comparisons.json")


def named(found: Verification, file: str) -> list[str]:
    """The places in a file that differ, each with a reason."""
    assert all(each.why for each in found.differences)
    return [each.where for each in found.differences if each.file.endswith(file)]


def test_files_from_which_nothing_follows_are_known_by_their_digests(package: Path) -> None:
    (a_trial(package, 0) / "worker.log").write_text("another log\n")
    (a_trial(package, 1) / "worker.log").unlink()
    (a_trial(package, 2) / "more.txt").write_text("1")
    whole = verify(package)
    assert {each.why for each in whole.differences if each.file.endswith("worker.log")} == {
        "the file has changed since the package was made",
        "the file was removed",
    }
    assert "the file was added" in {each.why for each in whole.differences}
    archive.write_manifest(package)
    [added] = verify(package).differences
    assert (added.file[-8:], added.found) == ("more.txt", "nothing of a study is kept there")


def test_a_difference_says_which_value_and_that_the_code_is_another(package: Path) -> None:
    def older(about: Any) -> None:
        about["code"] = "0123456789ab"

    metric(package)
    edit(package / ABOUT, older)
    archive.write_manifest(package)
    found = verify(package)
    changed = [d for d in found.differences if d.where == "metrics.energy/per_output_token_j"]
    assert float(changed[0].claimed) == pytest.approx(0.99 * float(changed[0].found))
    assert "computed otherwise by slm-energy" in changed[0].why
    assert found.other_code


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "it has no package.json"),
        ("{", "package.json cannot be read"),
        ('{"schema": 99, "version": "9.9"}', "install slm-energy 9.9 or newer"),
    ],
)
def test_what_is_no_package_is_said_in_one_line(
    content: str | None, why: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / ABOUT).write_text(content)
    with pytest.raises(ConfigError, match=why):
        verify(tmp_path)


def test_a_damaged_record_is_named_and_the_others_are_verified(package: Path) -> None:
    (a_trial(package) / "record.json").write_text("{}")
    found = verify(package)
    assert named(found, "record.json")
    assert found.trials == 6
