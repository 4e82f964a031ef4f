from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from slm_energy.planning.plan import Past
from slm_energy.record import OutcomeName
from slm_energy.store.history_cache import HistoryEntry, Ledger, recall

PAGE = 3


class FakeTrials:
    """A store in memory; counts what is read."""

    def __init__(self) -> None:
        self.there: dict[str, HistoryEntry] = {}
        self.gone: dict[str, HistoryEntry] = {}
        self.read = 0

    def add(self, key: str, started_ms: int, outcome: OutcomeName = "valid") -> HistoryEntry:
        past = Past(cell="c1", model="m", round=1, outcome=outcome, joules={"measured": 2.0})
        self.there[key] = HistoryEntry(key=key, started_ms=started_ms, past=past)
        return self.there[key]

    def delete(self, key: str) -> None:
        self.gone[key] = self.there.pop(key)

    def restore(self, key: str) -> None:
        self.there[key] = self.gone.pop(key)

    @property
    def truth(self) -> list[Past]:
        return [entry.past for entry in sorted(self.there.values(), key=lambda e: e.started_ms)]

    def pages(self, *, small_first: bool) -> Iterator[list[HistoryEntry]]:
        newest = sorted(self.there.values(), key=lambda entry: -entry.started_ms)
        size = 1 if small_first else PAGE
        while newest:
            page, newest, size = newest[:size], newest[size:], PAGE
            self.read += len(page)
            yield page

    def deleted(self) -> set[str]:
        return set(self.gone)

    def number(self, outcome: OutcomeName, count: int) -> bool:
        return count == sum(1 for entry in self.there.values() if entry.past.outcome == outcome)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "history" / "study.jsonl")


@pytest.fixture
def trials() -> FakeTrials:
    store = FakeTrials()
    for number in range(10):
        store.add(f"t{number}", 1000 + number)
    return store


def test_what_is_remembered_is_not_read_again(ledger: Ledger, trials: FakeTrials) -> None:
    assert recall(ledger, trials) == trials.truth
    assert trials.read == 10
    assert recall(ledger, trials) == trials.truth
    assert trials.read == 11
    ledger.add(trials.add("t10", 1010))
    trials.add("t11", 1011)  # by somebody else
    assert recall(ledger, trials) == trials.truth
    assert trials.read == 15


def test_a_trial_that_was_swapped_for_an_older_one_is_not_done(
    ledger: Ledger, trials: FakeTrials
) -> None:
    trials.delete("t3")
    recall(ledger, trials)
    trials.restore("t3")
    trials.delete("t4")
    found = recall(ledger, trials)
    assert len(found) == 9
    assert found == trials.truth


def test_a_trial_that_was_judged_anew_is_seen(ledger: Ledger, trials: FakeTrials) -> None:
    recall(ledger, trials)
    trials.add("t2", 1002, "invalid")
    assert [past.outcome for past in recall(ledger, trials)].index("invalid") == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-40],
        lambda text: text.replace('"valid"', '"fine"', 1),
        lambda text: text.replace('"round": 1', '"round": "one"'),
        lambda text: "".join(reversed(text)),
        lambda text: "[]\nnull\n" + text,
    ],
    ids=["torn", "unknown outcome", "wrong type", "garbage", "other JSON"],
)
def test_a_damaged_ledger_changes_nothing(ledger: Ledger, trials: FakeTrials, damage) -> None:
    recall(ledger, trials)
    path = ledger.path
    path.write_text(damage(path.read_text()))
    assert recall(ledger, trials) == trials.truth


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_to_a_store_what_is_recalled_is_what_is_there(
    ledger: Ledger, trials: FakeTrials, seed: int
) -> None:
    draw = random.Random(seed)
    for number in range(40):
        outcome = draw.choice(["valid", "valid", "failed", "invalid"])
        match draw.choice(["mine", "theirs", "late", "delete", "restore", "look", "look"]):
            case "mine":
                ledger.add(trials.add(f"m{number}", 2000 + number, outcome))
            case "theirs":
                trials.add(f"o{number}", 2000 + number, outcome)
            case "late":
                trials.add(f"l{number}", draw.randrange(2000), outcome)
            case "delete" if trials.there:
                trials.delete(draw.choice(sorted(trials.there)))
            case "restore" if trials.gone:
                trials.restore(draw.choice(sorted(trials.gone)))
            case _:
                assert recall(ledger, trials) == trials.truth
    assert recall(ledger, trials) == trials.truth
