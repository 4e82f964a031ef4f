"""Keys as they are declared."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Annotated, Literal

import pytest

from slm_energy.config.key import Key, keys_of
from slm_energy.config.keys import FILES, GROUPS, keys, known_keys


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    width: Annotated[float | None, Key("half of it", low=0.5, high=2000)] = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    name: Annotated[str, Key("what it is called")]
    mode: Annotated[Literal["on", "off"], Key("one of two. The second is rare.")] = "on"
    names: Annotated[tuple[str, ...], Key("several")] = ("a", "b")
    inner: Annotated[Inner, Key("more keys")] = dataclasses.field(default_factory=Inner)


def test_keys_are_read_from_a_dataclass_in_order_and_nested() -> None:
    name, mode, names, inner, width = keys_of(Outer, "group.")
    assert (name.name, name.required, name.default_text) == ("group.name", True, "required")
    assert (mode.choices, mode.values) == (("on", "off"), "on or off")
    assert (mode.summary, mode.meaning) == ("one of two", "one of two. The second is rare.")
    assert (names.values, names.default_text) == ("list", "[a, b]")
    assert (inner.values, inner.default_text) == ("mapping", "")
    assert (width.name, width.default_text) == ("group.inner.width", "null")
    assert width.values == "number, at least 0.5, at most 2,000, or null"
    assert [width.allows(value) for value in (0.4, 0.5, 2000, 2001)] == [False, True, True, False]


def test_all_keys_are_those_of_the_groups() -> None:
    names = [key.name for key in keys()]
    assert names[0] == "model.name"
    assert names[-1] == "cache.limit_gb"
    assert len(names) == len(set(names)) == sum(len(keys(group)) for group in GROUPS)
    assert [key.name for key in keys("ui")] == ["port", "open"]
    with pytest.raises(KeyError):
        keys("engin")


@pytest.mark.parametrize("name", [*GROUPS, *FILES])
def test_the_first_sentence_of_a_meaning_fits_on_a_line(name: str) -> None:
    for key in keys(name):
        assert 5 < len(key.summary) < 100, key.name


def test_a_part_of_a_path_that_exists_is_named() -> None:
    path, names = known_keys("measurement.limits.steel")
    assert path == "measurement.limits"
    assert "steal_pct" in names


def test_help_needs_nothing_heavy() -> None:
    heavy = ["hydra", "omegaconf", "pandas", "numpy", "mlflow", "torch"]
    code = f"import sys, slm_energy.config.keys; print(sorted(set({heavy}) & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
