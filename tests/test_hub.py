"""Which sources are hub ids, and what pins one."""

from __future__ import annotations

from pathlib import Path

import pytest

from slm_energy.errors import ConfigError
from slm_energy.hub import is_hub_id, pinned_commit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("org/name", True),
        ("org/name-1.5_b", True),
        ("bundled", False),
        ("name", False),
        ("./org/name", False),
        ("/org/name", False),
        ("org/group/name", False),
        ("tasks/mine.jsonl", False),
        ("tasks/mine.jsonl.gz", False),
    ],
)
def test_a_hub_id_is_an_owner_and_a_name(source: str, expected: bool) -> None:
    assert is_hub_id(source) == expected


def test_a_path_that_exists_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("org/name")
    Path("org/name").mkdir(parents=True)
    assert not is_hub_id("org/name")


@pytest.mark.parametrize(
    ("group", "kind", "of_several"),
    [("model", "", ", or by name in study.revisions"), ("workload", "datasets/", "")],
    ids=["model", "workload"],
)
def test_a_branch_pins_nothing(group: str, kind: str, of_several: str) -> None:
    assert pinned_commit(group, "org/name", COMMIT) == COMMIT
    with pytest.raises(ConfigError) as caught:
        pinned_commit(group, "org/name", "main")
    assert str(caught.value) == (
        f"{group}.source=org/name is a hub id: pin it with {group}.revision=COMMIT (40 hex digits,"
        f" see https://huggingface.co/{kind}org/name/commits/main){of_several}, or give a path"
        " that exists; revision is 'main'"
    )
