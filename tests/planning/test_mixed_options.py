"""Options of a grid whose engines differ, as engines themselves check them."""

from __future__ import annotations

import pytest

from slm_energy.config.compose import compose_grid
from slm_energy.errors import ConfigError
from slm_energy.planning.grid import resolve
from slm_energy.testing import CONF

WORDS = ("--config-dir", str(CONF), "-m", "study.reference=null")


def test_an_option_that_every_engine_accepts_is_part_of_every_cell() -> None:
    words = (*WORDS, "engine=onnx,onnxruntime_genai", "engine.options.spinning=off")
    grid = resolve(compose_grid(words))
    cells = [*grid.cells, *(cell for cell, _ in grid.unsupported)]
    assert [cell.settings.engine.options["spinning"] for cell in cells] == ["off", "off"]


def test_every_engine_that_does_not_accept_an_added_option_is_named() -> None:
    words = (*WORDS, "engine=scripted,torch,torchscript", "++engine.options.token_s=0.1")
    with pytest.raises(ConfigError) as raised:
        resolve(compose_grid(words))
    assert "engine torch has no such option" in str(raised.value)
    assert "engine torchscript has no such option" in str(raised.value)
    assert "scripted" not in str(raised.value)
