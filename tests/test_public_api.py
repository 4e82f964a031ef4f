"""What `slm_energy` exports: every name is there, typed, and imported on first use."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import slm_energy
from slm_energy.engines.base import find

HEAVY = ("torch", "mlflow", "pandas", "numpy", "hydra", "rich")

ENGINE = """
from slm_energy import Batch, Completion, EngineSpec, LoadRequest

class Silent:
    def load(self, load_request: LoadRequest) -> dict:
        return {"provider": "cpu"}

    def generate(self, batch: Batch) -> list[Completion]:
        return [Completion(output_ids=(0,), token_ns=(0,)) for prompt in batch.prompts]

    def close(self) -> None:
        pass

ENGINE = EngineSpec(
    name="silent", packages=(), create=Silent, unsupported=lambda settings: None
)
"""


def test_every_public_name_can_be_imported() -> None:
    missing = [name for name in slm_energy.__all__ if not hasattr(slm_energy, name)]
    assert not missing
    assert set(slm_energy.__all__) <= set(dir(slm_energy))
    assert slm_energy.__all__ == sorted(slm_energy.__all__)


def test_type_checkers_see_the_names_that_are_imported_on_first_use() -> None:
    text = Path(slm_energy.__file__).read_text(encoding="utf-8")
    block = text.partition("if TYPE_CHECKING:")[2].partition("__all__")[0]
    declared = {
        name.strip()
        for names in re.findall(r"import ([\w, ]+)", block)
        for name in names.split(",")
    }
    assert declared == set(slm_energy.__all__) - {"__version__"}
    assert Path(slm_energy.__file__).with_name("py.typed").is_file()


def test_importing_the_package_imports_no_library() -> None:
    code = f"import slm_energy, sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = slm_energy.nonsense


def test_an_engine_can_be_written_with_public_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "silent-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: silent\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[slm_energy.engines]\nsilent = silent_engine\n")
    (tmp_path / "silent_engine.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(tmp_path)
    assert isinstance(find("silent"), slm_energy.EngineSpec)
