"""Grams of CO2e per kWh of electricity, from the tables that CodeCarbon ships: no network."""

from __future__ import annotations

import dataclasses
import difflib
import json
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

from slm_energy.errors import ConfigError

_GRAMS_PER_POUND = 453.59237
_PACKAGE = f"CodeCarbon {version('codecarbon')}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CarbonFactor:
    """What the electricity of a place emits, as a mean over a year.

    Attributes:
        location: code of the place, such as `FRA`, `SE3`, `US-CA`.
        name: of the place.
        g_per_kwh: grams of CO2e per kWh.
        year: that the factor is about.
        source: table, and where the table says that it is from.
    """

    location: str
    name: str
    g_per_kwh: float
    year: int
    source: str


def carbon_factor(location: str) -> CarbonFactor:
    """The factor of a place.

    Args:
        location: its code.

    Raises:
        ConfigError: there is none.
    """
    known = _factors()
    if location in known:
        return known[location]
    words = {word.lower(): code for code, f in known.items() for word in (f.name, code)}
    close = dict.fromkeys(words[w] for w in difflib.get_close_matches(location.lower(), words))
    places = ", ".join(f"{code} ({known[code].name})" for code in close)
    advice = f"did you mean {places}?" if places else "name a country by its code, such as FRA"
    raise ConfigError(f"carbon.location={location}: no carbon factor is known; {advice}")


def _factors() -> dict[str, CarbonFactor]:
    """All factors by code: countries, zones of the Nordic grid, states of the USA.

    A mean of 0 g over a year is a gap in the table.
    """
    nordic, states = _table("nordic_emissions.json"), _table("2023/usa_emissions.json")
    factors = [
        CarbonFactor(
            location=code,
            name=row["country_name"],
            g_per_kwh=row["carbon_intensity"],
            year=row["year"],
            source=f"{_PACKAGE}, global_energy_mix.json, which names no source",
        )
        for code, row in _table("global_energy_mix.json").items()
    ]
    factors += [
        CarbonFactor(
            location=code,
            name=row["description"],
            g_per_kwh=row["emission_factor"],
            year=row["year"],
            source=f"{_PACKAGE}, nordic_emissions.json: {nordic['metadata']['source'].rstrip('.')}",
        )
        for code, row in nordic["data"].items()
    ]
    factors += [
        CarbonFactor(
            location=f"US-{row['regionCode']}",
            name=f"{name.title()}, USA",
            g_per_kwh=row["emissions"] * _GRAMS_PER_POUND / 1000,  # pounds per MWh
            year=states["_source"]["year"],
            source=f"{_PACKAGE}, usa_emissions.json: {states['_source']['name']}",
        )
        for name, row in states.items()
        if not name.startswith("_")
    ]
    return {factor.location: factor for factor in factors if factor.g_per_kwh > 0}


def _table(name: str) -> dict[str, Any]:
    """One of CodeCarbon's tables. The package is not imported: that searches for GPUs."""
    path = distribution("codecarbon").locate_file(f"codecarbon/data/private_infra/{name}")
    table: dict[str, Any] = json.loads(Path(str(path)).read_text(encoding="utf-8"))
    return table
