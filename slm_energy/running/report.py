"""Reports of stored studies: read from the store, built, kept with the study's last sweep.

Prints nothing; the command line and a notebook share it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from slm_energy import workload
from slm_energy.config.groups import TrackingConfig, WorkloadConfig
from slm_energy.config.options import AnalysisOptions, RecommendOptions
from slm_energy.errors import AnalysisError, ConfigError, SlmEnergyError, TrackingError
from slm_energy.planning.freeze import Frozen
from slm_energy.record import Record
from slm_energy.running.stop_rule import noise_floor
from slm_energy.serialization import from_plain
from slm_energy.store.artifacts import RECORD, SCORES, SETTINGS
from slm_energy.store.connection import store_uri
from slm_energy.store.mlflow_schema import PLAN_FILE
from slm_energy.store.reading import Readable
from slm_energy.store.tracking import Store, open_existing

if TYPE_CHECKING:
    import pandas as pd

    from slm_energy.analysis.regression import Side
    from slm_energy.analysis.render.files import RenderedFiles
    from slm_energy.analysis.render.generated import Generated
    from slm_energy.analysis.result.recommendation import Recommendation
    from slm_energy.analysis.result.report import Report
    from slm_energy.analysis.trials.answers import TrialAnswers


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredReport:
    """The report of a stored study.

    Attributes:
        result: all figures.
        generations: what cells generated, for the page.
        gaps: what the report goes without and why, one line each.
        boamps: with `carbon.location`, a BoAmps report of each cell: file name to content.
    """

    result: Report
    generations: tuple[Generated, ...]
    gaps: tuple[str, ...]
    boamps: Mapping[str, bytes] = dataclasses.field(default_factory=dict)

    def files(self) -> RenderedFiles:
        """Every file of the report."""
        from slm_energy.analysis.render.files import files

        made = files(self.result, self.generations)
        return dataclasses.replace(made, contents={**made.contents, **self.boamps})


def study_report(
    store: Readable, options: Mapping[str, Any], registration: str | None = None
) -> StoredReport:
    """Build a study's report.

    Args:
        store: has the study.
        options: the keys of conf/analysis.yaml that `slm_energy.analysis.options` accepts.
        registration: a file that was written before the study, to compare it with.

    Raises:
        ConfigError: an option is not valid, or `registration` is no such file.
        TrackingError: there is no such study.
        AnalysisError: the trials allow no report.
    """
    from slm_energy import analysis
    from slm_energy.analysis.boamps import boamps
    from slm_energy.analysis.build import with_failures
    from slm_energy.analysis.footprint import with_footprint
    from slm_energy.analysis.registration import checked as compare_with
    from slm_energy.analysis.registration import read
    from slm_energy.analysis.render.generated import generated
    from slm_energy.analysis.sections import Sections

    checked = analysis.options(options)
    result, answers, gaps = _analysed(store, checked)
    sections = Sections()
    generations: tuple[Generated, ...] = ()
    try:
        generations = sections.make(
            "generated code", lambda: generated(result, store.attached, answers), lambda failure: ()
        )
    except TrackingError as error:  # artifacts were lost
        gaps.append(f"no generated code in the report: {error}")
    if registration is not None:
        declared = read(Path(registration))
        plans = [
            from_plain(Frozen, json.loads(plan)["frozen"])
            for machine in (checked.machine or result.machine).split(",")
            for plan in store.plans(checked.study, machine)
        ]
        result = sections.make(
            "registration",
            lambda: compare_with(result, declared, plans),
            lambda failure: result,
        )
    result = sections.make(
        "carbon and money", lambda: with_footprint(result), lambda failure: result
    )
    made: Mapping[str, bytes] = {}
    if checked.carbon.location is not None:
        made = sections.make(
            "BoAmps", lambda: boamps(result, last_records(store, result)), lambda failure: {}
        )
    return StoredReport(
        result=with_failures(result, sections.failures),
        generations=generations,
        gaps=tuple(gaps),
        boamps=made,
    )


def last_records(store: Readable, result: Report) -> list[Record]:
    """The record of each cell's last valid trial, without its answers and readings.

    Raises:
        TrackingError: a file was lost.
    """
    runs = {trial.cell: trial.run_id for trial in result.trials if trial.outcome == "valid"}
    return [
        from_plain(Record, json.loads(store.attached(runs[cell.id], RECORD)))
        for cell in result.cells
        if cell.id in runs
    ]


def _analysed(
    store: Readable, options: AnalysisOptions
) -> tuple[Report, dict[str, TrialAnswers], list[str]]:
    """The analysis of a stored study, its scores by run id, and what it goes without."""
    from slm_energy import analysis
    from slm_energy.analysis.trials.answers import read_answers
    from slm_energy.analysis.trials.hardware import hardware
    from slm_energy.analysis.trials.kinds import node_kind

    frame = store.frame(options.study)
    machines = analysis.chosen_machines(frame, options.study, options.machine)
    own = frame[frame["machine"].isin(machines)]
    gaps = list[str]()
    floor = None
    try:
        floor = noise_floor(store, machines[0], node_kind(own)) if len(machines) == 1 else None
    except AnalysisError as error:
        gaps.append(f"no noise floor: {error}")
    stops = {machine: store.stopped(options.study, machine) for machine in machines}
    answers, lost = read_answers(own, store.attached)
    result = analysis.build(
        frame,
        options,
        noise_floor=floor,
        stopped="; ".join(filter(None, stops.values())),
        answers=answers,
        unscored="" if answers else why_unscored(store, own, options.study),
    )
    planned = max(_planned_rounds(store, options.study, machine) for machine in machines)
    seen = dict[str, str]()
    try:
        for machine in machines:
            valid = own[(own["outcome"] == "valid") & (own["machine"] == machine)]
            facts = hardware(str(valid["run_id"].iloc[-1]), store.attached)
            where = f"{machine}: " if len(machines) > 1 else ""
            seen |= {f"{where}{fact}": value for fact, value in facts.items()}
    except (TrackingError, ValueError, KeyError) as error:  # files were lost, or of an old version
        gaps.append(f"no hardware in the report: {error}")
    result = dataclasses.replace(result, planned_rounds=planned, hardware=seen)
    return result, answers, [*gaps, *lost]


def _planned_rounds(store: Readable, study: str, machine: str) -> int:
    """How many rounds the last plan of a study has; 0 where that is not known."""
    with contextlib.suppress(TrackingError, KeyError):  # files were lost, or of an old version
        plans = [json.loads(plan) for plan in store.plans(study, machine)]
        return int(plans[-1]["study"]["rounds"]) if plans else 0
    return 0


def why_unscored(store: Readable, rows: pd.DataFrame, study: str) -> str:
    """Why the answers of a study have no scores.

    Args:
        store: has its files.
        rows: its trials, as `Store.frame` has them.
        study: its name.
    """
    valid = rows[rows["outcome"] == "valid"]
    if valid.empty:
        return "no trial is valid"
    run = str(valid["run_id"].iloc[-1])
    with contextlib.suppress(TrackingError, ValueError, KeyError):  # files of older versions
        return str(json.loads(store.attached(run, SCORES))["unscored"])
    with contextlib.suppress(SlmEnergyError, ValueError, KeyError):  # the data set may have moved
        settings = yaml.safe_load(store.attached(run, SETTINGS))
        tasks = workload.load(from_plain(WorkloadConfig, settings["workload"]))
        if not any(task.tests for task in tasks):
            return "the tasks of its workload have no tests"
    return (
        "they were not tested when its trials ran (study.sandbox=off, or an older version); "
        f"slm-energy score study={study} tests them"
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoredRecommendations:
    """Recommendations for a stored study.

    Attributes:
        result: the comparison that they rest on.
        recommendations: one per family and kind of energy.
        gaps: what they go without and why, one line each; errors in the comparison first.
    """

    result: Report
    recommendations: tuple[Recommendation, ...]
    gaps: tuple[str, ...]


def study_recommendations(store: Store, options: RecommendOptions) -> StoredRecommendations:
    """Recommend a configuration for each family of a study.

    Raises:
        ConfigError: a condition names no metric of the study.
        TrackingError: there is no such study.
        AnalysisError: the trials cannot be compared.
    """
    from slm_energy.analysis.recommend import recommend

    asked = AnalysisOptions(
        study=options.study,
        families=options.families,
        margin=options.margin,
        margin_points=options.margin_points,
        alpha=options.alpha,
        machine=options.machine,
    )
    result, _, gaps = _analysed(store, asked)
    made = recommend(result, options.at_least, options.at_most)
    failed = (failure.sentence() for failure in result.failures)
    return StoredRecommendations(result=result, recommendations=made, gaps=(*failed, *gaps))


def attach(result: Report, files: Mapping[str, bytes], store: Store, parent: str) -> str:
    """Store a report and its files on the parent run of a sweep; return the artifacts' URI.

    The study's view in the UI shows what the report is about, the sweep's own run its figures.
    """
    from slm_energy.analysis.noise_floor import to_text
    from slm_energy.analysis.render import for_mlflow

    floor = result.noise_floor
    if floor is not None and floor.study == result.study:
        store.set_noise_floor(parent, result.machine, to_text(floor))
    figure = f"get-artifact?path={for_mlflow.PICTURE}&run_uuid={parent}"
    text = for_mlflow.description(result, figure if for_mlflow.PICTURE in files else "")
    store.describe(parent, text)
    names = [each.metric.name for each in result.metrics]
    if names:
        solved = [
            each.metric.name
            for each in result.solved
            if each.metric and any(cell.per_solved_j is not None for cell in each.cells)
        ]
        groups = {name.partition("/")[0] for trial in result.trials for name in trial.values}
        store.set_view(result.study, [names[0], *solved, *names[1:]], groups, text)
    study = _plan(store, parent).get("study", {})
    params = {f"study.{key}": str(value)[:6000] for key, value in study.items()}
    return store.add(parent, for_mlflow.headline(result), files, {}, params)


def _plan(store: Store, parent: str) -> dict[str, Any]:
    """The plan of a sweep; empty where its file was lost."""
    with contextlib.suppress(TrackingError, ValueError):
        return dict(json.loads(store.attached(parent, PLAN_FILE)))
    return {}


def open_sides(a: str, b: str, tracking: TrackingConfig) -> list[Side]:
    """Open the two studies of a comparison.

    Args:
        a: a study: NAME, NAME@FOLDER or NAME@URI.
        b: the other one.
        tracking: the store of a study that names none.

    Raises:
        ConfigError: both are the same study.
        TrackingError: there is no such store or study.
    """
    from slm_energy.analysis.regression import Side

    named = []
    for word in (a, b):
        name, _, location = word.partition("@")
        own = {"uri": location} if "://" in location else {"uri": None, "folder": location}
        named.append((name, dataclasses.replace(tracking, **own) if location else tracking))
    if len({(name, store_uri(each)) for name, each in named}) == 1:
        raise ConfigError(f"{a} and {b} are the same study: name two, each NAME or NAME@FOLDER")
    sides = []
    for word, (name, each) in zip((a, b), named, strict=True):
        store = open_existing(each)
        side = Side(
            name=word,
            frame=store.frame(name),
            attached=store.attached,
            stored_floor=partial(noise_floor, store),
        )
        sides.append(side)
    return sides
