from __future__ import annotations

from pathlib import Path

import pytest

from slm_energy.engines.base import find, left_padded
from slm_energy.errors import ConfigError

MODULE = """
from slm_energy.engines.base import EngineSpec
from slm_energy.testing.engine import ScriptedEngine

ENGINE = EngineSpec(
    name="theirs", packages=("numpy", "not-there"), create=ScriptedEngine,
    unsupported=lambda settings: None,
)
"""


@pytest.fixture
def installed_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third-party distribution with an engine."""
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    points = "[slm_energy.engines]\ntheirs = their_engine\nbroken = json\n"
    (info / "entry_points.txt").write_text(points)
    (tmp_path / "their_engine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("installed_engine")
def test_an_engine_may_come_from_another_package() -> None:
    spec = find("theirs")
    assert spec.name == "theirs"
    assert spec.versions()["not-there"] == "absent"
    assert spec.versions()["numpy"][0].isdigit()


@pytest.mark.usefixtures("installed_engine")
def test_an_unknown_engine_is_reported_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"engine\.name='other' .*installed: .*onnx.*theirs"):
        find("other")
    with pytest.raises(ConfigError, match="has no ENGINE of type EngineSpec"):
        find("broken")


def test_prompts_are_padded_on_the_left() -> None:
    ids, mask = left_padded([[1, 2, 3], [4]], pad_id=9)
    assert ids.tolist() == [[1, 2, 3], [9, 9, 4]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
