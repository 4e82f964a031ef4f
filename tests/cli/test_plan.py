import io

import pytest
from rich.console import Console

from slm_energy.cli.plan import warn_of_few_rounds
from slm_energy.config.compose import compose_grid
from slm_energy.planning.grid import resolve


@pytest.mark.parametrize(
    ("engines", "rounds", "warning"),
    [
        ("torch", 1, ""),
        ("torch,onnx", 1, "study.rounds=1, and 2 cells of one model need at least 2 rounds"),
        ("torch,onnx", 2, ""),
        ("torch,onnx,torchscript", 3, "3 cells of one model need at least 4 rounds"),
        ("torch,onnx,torchscript", 4, ""),
    ],
)
def test_rounds_that_can_give_no_verdict_are_warned_of(
    engines: str, rounds: int, warning: str
) -> None:
    grid = resolve(compose_grid(["-m", f"engine={engines}", f"study.rounds={rounds}"]))
    console = Console(file=io.StringIO(), width=200)
    warn_of_few_rounds(grid.cells, rounds, console)
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert warning in said
    assert bool(said) is bool(warning)


def test_cells_under_different_loads_are_not_compared() -> None:
    words = ["-m", "engine=llama_cpp_server", "load=open", "load.rate=1,2,4", "study.rounds=1"]
    grid = resolve(compose_grid(words))
    assert len(grid.cells) == 3
    console = Console(file=io.StringIO(), width=200)
    warn_of_few_rounds(grid.cells, 1, console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""
