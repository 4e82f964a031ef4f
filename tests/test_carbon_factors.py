"""Carbon factors are those that CodeCarbon itself would use offline."""

import re

import pytest

from slm_energy.carbon_factors import carbon_factor
from slm_energy.errors import ConfigError


@pytest.mark.parametrize(
    ("location", "country", "region"),
    [
        ("FRA", "FRA", None),
        ("POL", "POL", None),
        ("SE3", "SWE", "SE3"),
        ("NO4", "NOR", "NO4"),
        ("US-CA", "USA", "california"),
    ],
)
def test_a_factor_is_codecarbons(location: str, country: str, region: str | None) -> None:
    from codecarbon.core.emissions import Emissions
    from codecarbon.core.units import Energy
    from codecarbon.external.geography import GeoMetadata
    from codecarbon.input import DataSource

    place = GeoMetadata(country_iso_code=country, region=region)
    kg = Emissions(DataSource()).get_private_infra_emissions(Energy.from_energy(kWh=1), place)
    assert carbon_factor(location).g_per_kwh == pytest.approx(1000 * kg, rel=1e-6)


def test_a_factor_names_its_year_and_its_source() -> None:
    france, sweden, california = (carbon_factor(code) for code in ("FRA", "SE3", "US-CA"))
    assert (france.name, france.g_per_kwh, france.year) == ("France", 56.039, 2023)
    assert re.fullmatch(r"CodeCarbon 3\.\S+, global_energy_mix\.json, .* no source", france.source)
    assert "ENTSO-E Transparency" in sweden.source
    assert (california.name, california.year) == ("California, USA", 2023)
    assert "EPA eGRID2023" in california.source


@pytest.mark.parametrize(
    ("location", "advice"),
    [
        ("fra", "did you mean FRA (France), "),
        ("germany", "did you mean DEU (Germany)?"),
        ("US-XX", "did you mean US-"),
        ("nowhere at all", "name a country by its code, such as FRA"),
        ("CAF", "no carbon factor is known"),  # the table has 0 g for the Central African Republic
    ],
)
def test_an_unknown_place_is_one_line_with_close_matches(location: str, advice: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        carbon_factor(location)
    assert str(refusal.value).startswith(f"carbon.location={location}: no carbon factor is known; ")
    assert advice in str(refusal.value)
