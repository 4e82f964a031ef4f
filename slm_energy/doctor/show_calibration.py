"""Output of a calibration on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from slm_energy.doctor.calibrate import Result
from slm_energy.record import Fitted


def show(result: Result, console: Console) -> None:
    """Print a row for each source, what the figures mean, and what was left out."""
    fit = result.fit
    if fit.sources:
        console.print(Text(f"compared with {result.reference_words}; 95 % intervals", "bold"))
        table = Table(box=None, padding=(0, 2, 0, 0))
        for head in ("source", "gain", "offset, W", "shown later by, s"):
            table.add_column(head, overflow="fold")
        for each in fit.sources:
            offset = _words(each.offset_w) if each.relation == "same" else "not separable"
            table.add_row(Text(each.source), _words(each.gain), offset, _words(each.lag_s))
        console.print(table)
        console.print(Text("gain: shown power per power of the reference", "dim"))
    if any(each.relation == "part" for each in fit.sources):
        console.print(
            Text(
                "The reference covers more than these sources. Those that one load moves together"
                " share a gain, which contains conversion losses and what else rises with that"
                " load.",
                "dim",
            )
        )
    if fit.constant_w is not None:
        console.print(f"{_words(fit.constant_w)} W of the reference belong to no source")
    for why in dict.fromkeys(fit.left_out.values()):
        console.print(Text(f"not calibrated: {why}"), soft_wrap=True)


def _words(fitted: Fitted) -> str:
    """Text such as `0.812 (0.805 to 0.819)`, with a digit more than the interval has."""
    width = fitted.high - fitted.low
    digits = next((n for n in range(6) if 10**-n <= width / 10), 6)
    return f"{fitted.best:.{digits}f} ({fitted.low:.{digits}f} to {fitted.high:.{digits}f})"
