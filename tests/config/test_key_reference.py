"""What people read about keys is made from the declarations."""

from __future__ import annotations

import re
import runpy
import typing
from pathlib import Path

import pytest

from slm_energy.config.groups import Dtype, MeasurementConfig
from slm_energy.config.key import keys_of
from slm_energy.engines.base import find

ROOT = Path(__file__).parents[2]
TOOL = runpy.run_path(str(ROOT / "tools" / "key_reference.py"))


def test_the_key_reference_and_the_comments_in_conf_are_up_to_date() -> None:
    assert not TOOL["outdated"](), "run: python tools/key_reference.py"


@pytest.mark.parametrize(
    "file", sorted((ROOT / "conf" / "engine").glob("*.yaml")), ids=lambda f: f.stem
)
def test_types_in_the_file_of_an_engine_are_those_that_it_serves(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    entry = re.search(r"(^# .*\n)*^dtype:.*", text.partition("decode:")[2], re.MULTILINE)
    if entry is None or "name: openai_server" in text:  # a server's own affair
        return
    (name,) = re.findall(r"^name: (\w+)", text, re.MULTILINE)
    named = set(re.findall(r"\w+", entry[0])) & set(typing.get_args(Dtype))
    assert named == set(find(name).dtypes)


def test_comments_are_replaced_and_aligned_and_all_else_is_left_alone() -> None:
    text = "# A file.\nname: mine\nserve_s: 9 # old\nlimits:\n  steal_pct: 1.0\nother: 1 # own\n"
    known = {key.name: key for key in keys_of(MeasurementConfig)}
    assert TOOL["commented"](text, known).splitlines() == [
        "# A file.",
        f"name: mine       # {known['name'].summary}",
        f"serve_s: 9       # {known['serve_s'].summary}",
        f"limits:          # {known['limits'].summary}",
        f"  steal_pct: 1.0 # {known['limits.steal_pct'].summary}",
        "other: 1 # own",
    ]
