"""What the analysis of a table measured elsewhere adds to a report: savings over models, claims."""

from __future__ import annotations

from rich.console import Console

from slm_energy.analysis.external.report import ExternalReport
from slm_energy.analysis.render import terminal
from slm_energy.analysis.render.tables import Grid


def to_terminal(external: ExternalReport, console: Console) -> None:
    """Print what was guessed, the report, savings over models and claims; fits in 100 columns."""
    if external.guessed:
        terminal.print_line(external.guessed, console)
    terminal.to_terminal(external.report, console)
    for grid in grids(external):
        terminal.print_grid(grid, console)


def grids(external: ExternalReport) -> list[Grid]:
    """The savings over models and the claims, as tables; empty ones are left out."""
    ranges = Grid(
        title="Savings of the cheapest cell against the most expensive of its family (medians)",
        head=("Metric", "Among", "Families", "Least", "Largest"),
        rows=tuple(
            (
                saved.metric.title,
                saved.group or "all",
                str(saved.families),
                f"{saved.least_pct:.2f} % {saved.least_in}",
                f"{saved.largest_pct:.2f} % {saved.largest_in}",
            )
            for saved in external.ranges
        ),
    )
    checked = Grid(
        title="What the authors say, and what follows from this table",
        head=("Claim", "Published", "Computed", "Follows"),
        rows=tuple(
            (claim.claim.text, claim.published, claim.computed, claim.follows)
            for claim in external.checked
        ),
    )
    return [grid for grid in (ranges, checked) if grid.rows]
