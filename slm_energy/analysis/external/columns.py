"""What the columns of somebody else's table mean: conf/columns/NAME.yaml, checked.

Metrics get the names and units of this program (`energy/total_j`); the table keeps its own, and the
mapping says what they are: `{name: energy/total_j, column: "Energy [kWh]", unit: kWh}`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from slm_energy.analysis.external.claims import Claim
from slm_energy.analysis.external.csv_file import Decimal, Thousands
from slm_energy.config.key import Key
from slm_energy.errors import ConfigError
from slm_energy.serialization import from_plain

_SETTINGS = ("model", "engine", "provider", "measurement", "workload")
_GROUPS = (
    "energy", "energy_devices", "energy_estimated", "latency", "throughput", "time", "power",
    "memory", "utilization", "quality",
)  # fmt: skip
_UNITS: tuple[tuple[str, dict[str, float]], ...] = (
    ("_per_s", {"1/s": 1, "tokens/s": 1, "requests/s": 1}),
    ("_j", {"J": 1, "mJ": 1e-3, "kJ": 1e3, "MJ": 1e6, "mWh": 3.6, "Wh": 3600, "kWh": 3.6e6}),
    ("_s", {"s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60, "h": 3600}),
    ("_w", {"W": 1, "mW": 1e-3, "kW": 1e3}),
    ("_mb", {"MB": 1, "B": 1e-6, "kB": 1e-3, "GB": 1e3, "MiB": 1.048576, "GiB": 1073.741824}),
    ("_pct", {"%": 1, "share": 100}),
)
"""How the name of a metric ends, and what one of each unit is in it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MetricColumn:
    """One metric of the table.

    Attributes:
        name: what this program calls it: `group/quantity_unit`, such as `latency/e2e_p50_s`.
        column: the column, or the level of `Columns.variable`, that holds it.
        unit: of the values in the table; J and Wh of energy, s and ms of time, ...
    """

    name: str
    column: str
    unit: str

    @property
    def factor(self) -> float:
        """A value of the table times this is in the unit that ends the name.

        Raises:
            ConfigError: the name or the unit is none of ours.
        """
        group, _, quantity = self.name.partition("/")
        if group not in _GROUPS or not quantity:
            raise ConfigError(
                f"columns.metrics: {self.name!r} is no name of a metric; it must be GROUP/QUANTITY_"
                f"UNIT, such as energy/total_j, with a group of {', '.join(_GROUPS)}"
            )
        units = units_of(quantity)
        if self.unit not in units:
            known = ", ".join(units) if "" not in units else "an empty one only, it counts"
            raise ConfigError(
                f"columns.metrics: unit {self.unit!r} does not fit {self.name}; choose {known}"
            )
        return units[self.unit]


def by_name(column: str) -> MetricColumn | None:
    """A column that bears the name of one of our metrics, in its unit; None for any other."""
    if column.partition("/")[0] not in _GROUPS or "/" not in column:
        return None
    return MetricColumn(name=column, column=column, unit=next(iter(units_of(column))))


def units_of(metric: str) -> dict[str, float]:
    """The units in which values of a metric may be, ours first, and what makes them ours."""
    return next((units for end, units in _UNITS if metric.endswith(end)), {"": 1.0})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """How to read a table."""

    factors: Annotated[
        dict[str, str | None],
        Key(
            "column of each setting; null where the table has none. They make a cell: model,"
            " engine, provider, or a setting such as workload.batch_size."
        ),
    ]
    metrics: Annotated[
        tuple[MetricColumn, ...],
        Key(
            "[{name: energy/total_j, column: Energy, unit: kWh}]; [] is every column named like a"
            " metric. The first one decides."
        ),
    ] = ()
    repetition: Annotated[
        str | None,
        Key("column that numbers the repetitions of a cell; null takes its rows in their order"),
    ] = None
    rounds: Annotated[
        bool,
        Key(
            "true if a repetition is a round: every cell once, in random order. Only then can cells"
            " be compared within rounds."
        ),
    ] = False
    repetition_columns: Annotated[
        str | None,
        Key(
            "rep, if the repetitions are columns rep1, rep2, ...; null if they are rows. Their"
            " values are read as a column `value`."
        ),
    ] = None
    variable: Annotated[
        str | None,
        Key("column that names what each value is, in a table with one value per row"),
    ] = None
    value: Annotated[str, Key("column of these values")] = "value"
    guess: Annotated[
        bool,
        Key(
            "take columns by their usual names, such as Energy (Wh), where nothing else is said."
            " The report says what was taken."
        ),
    ] = False
    decimal: Annotated[
        Decimal | None,
        Key("mark before decimals; null is a point, unless the file leaves that open"),
    ] = None
    thousands: Annotated[
        Thousands | None,
        Key("mark between thousands: 1,234.5 has a comma; null is none"),
    ] = None
    keep: Annotated[
        dict[str, tuple[str | int | float, ...]],
        Key("column to the values that are read, such as {engine: [TORCH]}; drops other rows"),
    ] = dataclasses.field(default_factory=dict)
    aggregate: Annotated[
        str | None,
        Key("what a row is if it is an aggregate, such as median of 10 repetitions"),
    ] = None
    source: Annotated[str, Key("who measured it, and what a reader must know about it")] = ""
    claims: Annotated[
        tuple[Claim, ...],
        Key("statements of the authors to check; see conf/columns/paper_medians.yaml"),
    ] = ()

    @property
    def present(self) -> dict[str, str]:
        """The factors that the table has a column for."""
        return {name: column for name, column in self.factors.items() if column is not None}


def columns(mapping: Mapping[str, Any]) -> Columns:
    """Check the keys of conf/columns/NAME.yaml and freeze them.

    Raises:
        ConfigError: an unknown key, a wrong type, a unit that does not fit, or a contradiction.
    """
    try:
        result = from_plain(Columns, dict(mapping))
    except ValueError as error:
        text = str(error).replace("Columns", "columns", 1)
        raise ConfigError(f"{text}; see conf/columns/tidy.yaml") from None
    if not result.present and not result.guess:
        raise ConfigError("columns.factors names no column; set columns.factors.engine=COLUMN")
    for name in result.factors:
        if name.partition(".")[0] not in _SETTINGS:
            raise ConfigError(
                f"columns.factors.{name}: no such factor; use model, engine, provider, or a "
                "setting such as workload.batch_size"
            )
    names = [metric.name for metric in result.metrics]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"columns.metrics names {twice[0]} twice: once is enough")
    for metric in result.metrics:
        _ = metric.factor
    for claim in result.claims:
        if claim.kind in ("least_saving", "largest_saving") and claim.published is None:
            raise ConfigError(f"columns.claims: {claim.text!r} lacks published, its figure in %")
    if result.variable is not None and not result.metrics:
        raise ConfigError("columns.variable needs columns.metrics, which say what its levels are")
    numbered = result.repetition is not None or result.repetition_columns is not None
    if result.rounds and not numbered:
        raise ConfigError("columns.rounds=true needs columns.repetition=COLUMN with their numbers")
    if numbered and result.aggregate is not None:
        raise ConfigError("columns.aggregate contradicts columns.repetition: set one of them")
    return result
