"""What the store knows so far: a machine's noise floor, whether a study has run enough rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from slm_energy.errors import AnalysisError, ConfigError, TrackingError
from slm_energy.planning.grid import Grid
from slm_energy.store.reading import Readable
from slm_energy.store.tracking import Store

if TYPE_CHECKING:
    from slm_energy.analysis.result.diagnostics import NoiseFloor
    from slm_energy.analysis.stopping import Decision


def noise_floor(store: Readable, machine: str, node_kind: str = "") -> NoiseFloor | None:
    """The latest one that a study measured on a machine; None before there is one.

    Args:
        store: where to look.
        machine: its name.
        node_kind: of a cluster's nodes: what was measured on others does not count.

    Raises:
        AnalysisError: it cannot be read.
    """
    from slm_energy.analysis.noise_floor import from_text

    floors = map(from_text, store.noise_floors(machine))
    return next((f for f in floors if not node_kind or f.node_kind in ("", node_kind)), None)


def decide(grid: Grid, machine: str) -> Decision:
    """Apply the rule of `study.precision_pct` to the trials in the store.

    Only the grid's cells count: a study may hold others, of an earlier invocation.

    Raises:
        TrackingError: there is no such study.
        AnalysisError: it has no valid trial.
    """
    from slm_energy.analysis import options, stopping

    study = grid.config.study
    assert study.precision_pct is not None
    frame = Store(grid.config.tracking).frame(study.name)
    report_options = options({"study": study.name, "machine": machine})
    cells = [cell.id for cell in grid.cells]
    return stopping.settled(frame, report_options, study.precision_pct, cells)


def status(grid: Grid, machine: str) -> str | None:
    """Whether that rule is reached, for the plan of a study that has begun; None without a rule."""
    if grid.config.study.precision_pct is None:
        return None
    try:
        decision = decide(grid, machine)
    except (TrackingError, AnalysisError) as error:
        return f"not reached, {error}"
    return f"{'reached' if decision.stop else 'not reached'}, {decision.reason}"


def stopping_rule(grid: Grid, console: Console) -> Callable[[str], str | None]:
    """Make what a sweep calls between rounds with the machine's name.

    Returns:
        A function that returns why no more rounds are needed, or None to continue.

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

    def reason_to_stop(machine: str) -> str | None:
        try:
            decision = decide(grid, machine)
        except (TrackingError, AnalysisError) as error:
            text = f"[yellow]study.precision_pct cannot be checked[/]: {escape(str(error))}"
            console.print(text, highlight=False, soft_wrap=True)
            return None
        return decision.reason if decision.stop else None

    return reason_to_stop
