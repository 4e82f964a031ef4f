"""What is known so far: a machine's noise floor, and whether a study has run enough rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from slm_energy.errors import AnalysisError, ConfigError, TrackingError
from slm_energy.planning.grid import Grid
from slm_energy.store.tracking import Store

if TYPE_CHECKING:
    from slm_energy.analysis.result.diagnostics import NoiseFloor
    from slm_energy.analysis.stopping import Decision


def noise_floor(store: Store, machine: str) -> NoiseFloor | None:
    """The latest one that a study measured on a machine; None before there is one.

    Raises:
        AnalysisError: it cannot be read.
    """
    from slm_energy.analysis.noise_floor import from_text

    text = store.noise_floor(machine)
    return None if text is None else from_text(text)


def settled(grid: Grid, machine: str) -> Decision:
    """What the rule of `study.precision_pct` says of the trials there are.

    Only the grid's cells count: a study may hold others, of an earlier invocation.

    Raises:
        TrackingError: there is no such study.
        AnalysisError: it has no valid trial.
    """
    from slm_energy.analysis import options, stopping

    study = grid.config.study
    assert study.precision_pct is not None
    frame = Store(grid.config.tracking).frame(study.name)
    asked = options({"study": study.name, "machine": machine})
    cells = [cell.id for cell in grid.cells]
    return stopping.settled(frame, asked, study.precision_pct, cells)


def told(grid: Grid, machine: str) -> str | None:
    """What a plan says of that rule once a study has begun; None without one."""
    if grid.config.study.precision_pct is None:
        return None
    try:
        found = settled(grid, machine)
    except (TrackingError, AnalysisError) as error:
        return f"not reached, {error}"
    return f"{'reached' if found.stop else 'not reached'}, {found.reason}"


def stopping_rule(grid: Grid, console: Console) -> Callable[[str], str | None]:
    """What a sweep asks between rounds, with the machine's name: why no more are needed, or None.

    Raises:
        ConfigError: the trials cannot be read between rounds.
    """
    if grid.config.study.precision_pct is None:
        return lambda machine: None
    if grid.config.tracking.offline:
        raise ConfigError(
            "study.precision_pct needs a store that can be read between rounds, which"
            " tracking=offline is not: set study.precision_pct=null, or another tracking"
        )

    def ask(machine: str) -> str | None:
        try:
            found = settled(grid, machine)
        except (TrackingError, AnalysisError) as error:
            text = f"[yellow]study.precision_pct is not looked at[/]: {escape(str(error))}"
            console.print(text, highlight=False, soft_wrap=True)
            return None
        return found.reason if found.stop else None

    return ask
