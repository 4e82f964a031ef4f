"""Part of a result: what the joules emit and cost. It follows from them: no verdict is about it."""

from __future__ import annotations

import dataclasses

from slm_energy.analysis.result.metric import Metric
from slm_energy.carbon_factors import CarbonFactor


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """A figure with its interval.

    Attributes:
        value: the figure.
        low: lower end of the interval; None where it has none.
        high: upper end.
    """

    value: float
    low: float | None
    high: float | None

    def times(self, factor: float) -> Amount:
        """The same in another unit."""
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return Amount(value=self.value * factor, low=low, high=high)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FootprintRow:
    """One cell, per so many of what it delivers.

    Attributes:
        cell: its id.
        metric: the joules that it follows from; those of an estimate are a model's.
        per: `1,000 requests`, `million output tokens` or `1,000 solved tasks`.
        kwh: electricity, the data centre's PUE included.
        g_co2e: grams of CO2e; None without a location.
        cost: in the currency of `price_per_kwh`; None without a price.
    """

    cell: str
    metric: Metric
    per: str
    kwh: Amount
    g_co2e: Amount | None
    cost: Amount | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """What the joules of a study emit and cost.

    Attributes:
        factor: grams of CO2e per kWh; None without a location.
        pue: what joules were multiplied by.
        price_per_kwh: in a currency of the reader's choice; None without one.
        with_gain: the metrics whose intervals also cover the sensors, with their gain; the others
            cover the spread over trials alone.
        rows: cell by cell, in the order of the report.
        note: what the figures rest on, cover and leave out.
    """

    factor: CarbonFactor | None
    pue: float
    price_per_kwh: float | None
    with_gain: tuple[str, ...]
    rows: tuple[FootprintRow, ...]
    note: str = ""
