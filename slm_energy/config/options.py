"""The keys of the verbs that have a file of their own in conf/."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from slm_energy.config.key import Key

METRICS = (
    "energy/per_output_token_j",
    "latency/e2e_p50_s",
    "throughput/output_tokens_per_s",
    "latency/ttft_p50_s",
)
_MARGIN = Key(
    "smallest relative difference that matters (0.02 is 2 %). Declare it before you look at the"
    " results.",
    low=0,
    high=0.5,
)
_MARGIN_POINTS = Key(
    "largest loss of pass rate, in percentage points, that does not matter. Declare it before you"
    " look at the results.",
    low=0,
    high=50,
)
_MACHINE = Key("machine whose trials are read; needed only where a study has trials of several")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CarbonOptions:
    """Whose electricity a report converts joules with."""

    location: Annotated[
        str | None,
        Key(
            "where the electricity comes from, such as FRA; null converts nothing to gCO2e. A"
            " country by its ISO 3166 code of three letters, a zone of the Nordic grid (SE3, NO1,"
            " FI) or a state (US-CA); the factors are those that CodeCarbon ships, so that no"
            " network is needed."
        ),
    ] = None
    pue: Annotated[
        float,
        Key(
            "power usage effectiveness of the data centre, which multiplies the joules. It counts"
            " for gCO2e and for money; leave it at 1 if the joules are those of the building.",
            low=1,
            high=10,
        ),
    ] = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AnalysisOptions:
    """What `slm-energy report` compares, and how strictly."""

    study: Annotated[str, Key("name of the study")]
    metrics: Annotated[
        tuple[str, ...],
        Key(
            "metrics to compare; the first one decides. Where a cell has no sensor, an energy/..."
            " metric means its estimate, energy_estimated/..."
        ),
    ] = METRICS
    factors: Annotated[
        tuple[str, ...],
        Key("settings whose effects are estimated; engine is short for engine.name"),
    ] = ("model", "engine", "provider")
    families: Annotated[
        tuple[str, ...],
        Key(
            "settings within whose levels cells are compared; [] compares all with all. p-values"
            " and intervals are adjusted for all pairs of a family."
        ),
    ] = ("model",)
    reference: Annotated[
        str | None,
        Key(
            "label or id of the cell to compare the others with; null is the best of each family."
            " A label may omit the levels of the family: `torch / cpu`."
        ),
    ] = None
    margin: Annotated[float, _MARGIN] = 0.02
    margin_points: Annotated[float, _MARGIN_POINTS] = 2.0
    alpha: Annotated[
        float,
        Key(
            "family-wise error rate, of what `adjust` says; intervals have confidence 1 - alpha",
            low=0.001,
            high=0.2,
        ),
    ] = 0.05
    adjust: Annotated[
        Literal["family", "study"],
        Key(
            "what has the error rate alpha: each family on each metric, or all of a study together."
            " With study, the comparisons share alpha in equal parts (Bonferroni); name only the"
            " metrics that you draw conclusions from."
        ),
    ] = "family"
    draws: Annotated[
        int,
        Key(
            "permutations or draws that adjusted p-values and intervals are computed from",
            low=999,
            high=1_000_000,
        ),
    ] = 9999
    seed: Annotated[int, Key("seed of all random draws", low=0, high=2**32 - 1)] = 0
    machine: Annotated[
        str | None,
        Key(
            "machine whose trials are read, or several to compare: machine=a,b. Needed where a"
            " study has trials of several."
        ),
    ] = None
    carbon: Annotated[
        CarbonOptions, Key("whose electricity joules are converted to gCO2e with")
    ] = dataclasses.field(default_factory=CarbonOptions)
    price_per_kwh: Annotated[
        float | None,
        Key(
            "price of electricity, in a currency of your choice; null converts nothing to money",
            low=0,
            high=1_000_000,
        ),
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RecommendOptions:
    """Under which conditions `slm-energy recommend` names the cheapest configuration."""

    study: Annotated[str, Key("name of the study")]
    at_least: Annotated[
        dict[str, float],
        Key(
            "smallest acceptable values, such as at_least.pass_at_1=0.3. Names are those of"
            " `slm-energy metrics`, values in the unit that it lists; the group of a name may be"
            " omitted where the rest identifies it."
        ),
    ] = dataclasses.field(default_factory=dict)
    at_most: Annotated[
        dict[str, float],
        Key(
            "largest acceptable values, such as at_most.latency/e2e_p95_s=2. Names as in at_least."
        ),
    ] = dataclasses.field(default_factory=dict)
    families: Annotated[
        tuple[str, ...],
        Key(
            "settings for each of whose levels there is a recommendation; [] chooses among all"
            " cells. [model] names one configuration for each model."
        ),
    ] = ()
    margin: Annotated[float, _MARGIN] = 0.02
    margin_points: Annotated[float, _MARGIN_POINTS] = 2.0
    alpha: Annotated[
        float,
        Key(
            "error rate of all verdicts of a family together; intervals have confidence 1 - alpha",
            low=0.001,
            high=0.2,
        ),
    ] = 0.05
    machine: Annotated[str | None, _MACHINE] = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReportFiles:
    """What `slm-energy report` reads in place of a study, and where it writes."""

    data: Annotated[
        str | None,
        Key(
            "CSV file of measurements, in place of a study. What its columns mean is in"
            " conf/columns/NAME.yaml, chosen by columns=NAME."
        ),
    ] = None
    out: Annotated[
        str | None,
        Key("folder for report.html, tables, figures and the data; null writes none"),
    ] = None
    registration: Annotated[
        str | None,
        Key(
            "registration that the study is compared with; null has none. `slm-energy plan"
            " --register FILE` writes it before the first trial."
        ),
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExportOptions:
    """Where `slm-energy export` writes a study's package, and what it says of itself."""

    out: Annotated[str | None, Key("folder that becomes the package; it must not exist yet")] = None
    zip: Annotated[bool, Key("write the package as out.zip, the same bytes each time")] = False
    title: Annotated[str | None, Key("title of the package; null names the study")] = None
    authors: Annotated[
        tuple[str, ...],
        Key("names of the authors, such as ['Ada Lovelace']; left out with anonymize=true"),
    ] = ()
    data_license: Annotated[
        str | None,
        Key("SPDX id of the licence of readings, figures and texts, such as CC-BY-4.0"),
    ] = None
    code_license: Annotated[str, Key("SPDX id of the licence of configurations and plans")] = (
        "Apache-2.0"
    )
    anonymize: Annotated[
        bool,
        Key(
            "for double-blind review: without authors, e-mail addresses and `words`. Credentials,"
            " home folders and names of users, hosts and machines are always replaced."
        ),
    ] = False
    words: Annotated[
        tuple[str, ...],
        Key("further words to replace wherever they occur, such as the name of a laboratory"),
    ] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CompareOptions:
    """What `slm-energy compare A B` decides by."""

    metrics: Annotated[
        tuple[str, ...],
        Key(
            "metrics to compare; each can be a regression. Where a cell has no sensor in either"
            " study, an energy/... metric means its estimate, energy_estimated/..."
        ),
    ] = ("energy/per_output_token_j", "latency/e2e_p50_s")
    margin: Annotated[float, _MARGIN] = 0.02
    alpha: Annotated[
        float,
        Key(
            "family-wise error rate over all cells and metrics; intervals have confidence"
            " 1 - alpha",
            low=0.001,
            high=0.2,
        ),
    ] = 0.05
    floor: Annotated[
        float,
        Key(
            "noise floor: relative difference between two studies of the same thing (0.01 is 1 %)."
            " `slm-energy --config-name aa_noise_floor` measures it on this machine.",
            low=0,
            high=1,
        ),
    ] = 0.0
    allow: Annotated[
        tuple[str, ...],
        Key(
            "groups of facts that may differ, such as [versions, kernel]; [all] allows everything."
            " A refusal names what would have to be allowed."
        ),
    ] = ()
    machine: Annotated[str | None, _MACHINE] = None
    fail_on: Annotated[
        tuple[Literal["regression", "inconclusive", "missing"], ...],
        Key(
            "what ends with exit code 1: a cell that got worse, one without a verdict, a value of A"
            " that B lacks. [] never does."
        ),
    ] = ("regression",)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonFiles:
    """Where `slm-energy compare` writes."""

    out: Annotated[
        str | None,
        Key("folder for comparison.md, comparison.json and junit.xml; null writes none"),
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ScoreOptions:
    """Whose answers `slm-energy score` tests, and how."""

    study: Annotated[str, Key("name of the study")]
    sandbox: Annotated[
        Literal["bubblewrap", "none"],
        Key("where generated code is tested; none runs it with your own rights"),
    ] = "bubblewrap"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UiOptions:
    """Where `slm-energy ui` serves the MLflow UI."""

    port: Annotated[
        int,
        Key("port on the loopback interface; no other machine can connect", low=1, high=65535),
    ] = 5000
    open: Annotated[bool, Key("open the study that changed last in the browser")] = False


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CalibrateOptions:
    """How `slm-energy calibrate` compares this machine's sources with a reference."""

    against: Annotated[
        str | None,
        Key(
            "id of the source that the others are compared with; null is the meter at the wall."
            " `slm-energy doctor` lists the ids."
        ),
    ] = None
    levels: Annotated[
        tuple[float, ...],
        Key(
            "loads beside idle, as shares of all processors (of a GPU's time). Each is above 0 and"
            " at most 1."
        ),
    ] = (0.5, 1.0)
    gpus: Annotated[
        bool,
        Key("load each NVIDIA GPU too, where this Python has a torch with CUDA"),
    ] = True
    phase_s: Annotated[
        float,
        Key(
            "length of each phase of constant load. A meter that lags or has coarse steps needs a"
            " longer one; the error says so.",
            low=1,
            high=3600,
        ),
    ] = 20.0
    rounds: Annotated[int, Key("how often idle and all loads are repeated", low=3, high=100)] = 5
