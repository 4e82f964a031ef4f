"""Which texts are personal, and what becomes of them."""

from __future__ import annotations

import dataclasses
from array import array

import pytest

from slm_energy.replication.anonymize import Names, Replacements, texts_of, users_in, vocabulary


def replacing(*, keep: tuple[str, ...] = (), **names: object) -> Replacements:
    return Replacements(Names(**names), keep)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/grace/models/x", "/home/user/models/x"),
        ("/Users/grace", "/Users/user"),
        ("/scratch/grace/run", "/scratch/user/run"),
        ("started by grace.", "started by user."),
        ("disgrace, gracefully, grace-note", "disgrace, gracefully, grace-note"),
        ("node7 (node7.lab.example.org)", "host-1 (host-1)"),
        ("node71", "node71"),
        ("node7-a1b2c3", "machine-1"),
        ("https://grace:pa55@example.org/x", "https://***@example.org/x"),
        ("token hf_abcdefghijklmnopqrstuvwxyz", "token ***"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
    ],
)
def test_names_are_replaced_where_they_are_names(text: str, expected: str) -> None:
    change = replacing(
        users=frozenset({"grace"}), hosts=frozenset({"node7"}), machines=("node7-a1b2c3",)
    )
    assert change(text) == expected
    assert change(expected) == expected
    assert (change.left(text) is not None) == (text != expected)


def test_accounts_that_tell_nothing_stay() -> None:
    change = replacing(users=frozenset({"root", "runner"}))
    assert change("/home/runner/work, root") == "/home/runner/work, root"


def test_a_name_with_another_meaning_is_replaced_in_paths_alone() -> None:
    assert {"torch", "machine", "user"} < vocabulary()
    change = replacing(users=frozenset({"torch"}), keep=("torch", "cpu"))
    assert change("/home/torch/x: engine torch") == "/home/user/x: engine torch"


def test_addresses_and_listed_words_go_in_a_package_for_double_blind_review() -> None:
    text = "Acme Lab, grace@acme.example"
    assert replacing()(text) == text
    change = replacing(words=("Acme Lab",), strict=True)
    assert change(text) == "withheld, withheld"


def test_nested_data_keep_their_shape_and_numbers() -> None:
    @dataclasses.dataclass(frozen=True)
    class Inner:
        path: str
        counts: array

    counts = array("q", [1, 2])
    value = {"ann": [Inner("/home/ann/x", counts), 1.5, None, True]}
    assert users_in(texts_of(value)) == {"ann"}
    changed = replacing(users=frozenset({"ann"})).everywhere(value)
    assert changed == {"ann": [Inner("/home/user/x", counts), 1.5, None, True]}


def test_what_was_replaced_is_remembered_by_kind() -> None:
    change = replacing(users=frozenset({"grace"}))
    change("/home/grace and grace")
    assert change.done == {"names of users": {"grace": "user"}}
