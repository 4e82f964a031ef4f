"""One BoAmps report per cell: Boavizta's JSON format for the energy of AI tasks.

The classes are CodeCarbon's; what they mean is in https://github.com/Boavizta/BoAmps/tree/main/model.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from types import ModuleType
from typing import Any

from slm_energy.analysis.result.footprint import Footprint
from slm_energy.analysis.result.report import Report
from slm_energy.cell import served_by
from slm_energy.metric_catalog.definition import ESTIMATED, SUMS, energy_name
from slm_energy.record import Record
from slm_energy.serialization import readable

_J_PER_KWH = 3.6e6
_QUALITY = {0.10: "high", 0.25: "medium", 0.50: "low"}
"""BoAmps' classes of relative error."""


def boamps(report: Report, records: Sequence[Record]) -> dict[str, bytes]:
    """File name to content, one for each cell with joules.

    Args:
        report: with a footprint that has a carbon factor: BoAmps requires the place.
        records: of one valid trial per cell; they need no answers and no readings.
    """
    footprint = report.footprint
    if footprint is None or footprint.factor is None:
        return {}
    files = {}
    for record in records:
        cell = record.trial.cell.id
        valid = [t.values for t in report.trials if t.cell == cell and t.outcome == "valid"]
        for group, total in SUMS.items():  # measured first: such a cell has no estimate then
            own = [values for values in valid if energy_name(group, "serve", total) in values]
            if own:
                made = _report(report, footprint, record, own, group)
                files[f"boamps/{cell}.json"] = readable(made.to_dict()).encode()
                break
    return files


def _report(
    report: Report,
    footprint: Footprint,
    record: Record,
    trials: Sequence[Mapping[str, float]],
    group: str,
) -> Any:
    """CodeCarbon's object; the figures are sums over the serve windows of all valid trials."""
    made, factor = _classes(), footprint.factor
    assert factor is not None
    capture, settings = record.capture, record.trial.cell.settings
    assert capture is not None
    environment = capture.environment
    passed = [each["quality/pass_at_1"] for each in trials if "quality/pass_at_1" in each]
    at = datetime.datetime.fromtimestamp(record.started_unix_ns / 1e9, datetime.UTC)
    model = settings.model
    return made.BoAmpsReport(
        header=made.BoAmpsHeader(
            format_version="0.1",
            format_version_specification_uri="https://github.com/Boavizta/BoAmps/tree/main/model",
            report_id=record.trial.id,
            report_datetime=f"{at:%Y-%m-%d %H:%M:%S}",
        ),
        task=made.BoAmpsTask(
            task_stage="inference",
            task_family="code generation",
            nb_request=_sum(trials, "tokens/requests"),
            algorithms=[
                made.BoAmpsAlgorithm(
                    algorithm_type="llm",
                    foundation_model_name=model.name,
                    foundation_model_uri=f"https://huggingface.co/{model.source}/tree/{model.revision}"
                    if model.revision
                    else None,
                    framework=served_by(settings),
                    framework_version=", ".join(
                        f"{name} {version}"
                        for name, version in record.trial.cell.versions.items()
                        if name not in ("python", "builds") and version != "absent"
                    ),
                    quantization=settings.engine.dtype,
                )
            ],
            dataset=[
                made.BoAmpsDataset(
                    data_usage=usage,
                    data_type="token",
                    data_quantity=_sum(trials, f"tokens/{usage}"),
                )
                for usage in ("input", "output")
            ],
            measured_accuracy=fmean(passed) if passed else None,
            task_description=f"study {report.study}, {record.trial.label}, workload"
            f" {settings.workload.name}; {len(trials)} trials",
        ),
        measures=[_measure(made, report, record, trials, group)],
        system=made.BoAmpsSystem(os=str(environment.get("platform", "Linux"))),
        software=made.BoAmpsSoftware(language="python", version=str(environment["python"])),
        infrastructure=made.BoAmpsInfrastructure(
            infra_type="other", components=_components(made, record)
        ),
        environment=made.BoAmpsEnvironment(
            country=factor.name,
            location=factor.location,
            power_source_carbon_intensity=factor.g_per_kwh,
        ),
        quality=_quality(footprint, record.trial.cell.id),
    )


def _measure(
    made: ModuleType,
    report: Report,
    record: Record,
    trials: Sequence[Mapping[str, float]],
    group: str,
) -> Any:
    kwh = {
        window: _kwh(_sum(trials, energy_name(group, window, SUMS[group])))
        for window in ("serve", "baseline")
    }
    busy = [t["utilization/cpu_mean_pct"] for t in trials if "utilization/cpu_mean_pct" in t]
    read = {figure.source_id.partition("/")[0] for figure in record.energy if figure.summed}
    estimated = group == ESTIMATED
    return made.BoAmpsMeasure(
        measurement_method="codecarbon" if estimated else "slm_energy",
        version=None if estimated else report.provenance.versions.get("slm_energy"),
        cpu_tracking_mode="rapl" if "rapl" in read else None,
        gpu_tracking_mode="nvml" if "nvml" in read else None,
        average_utilization_cpu=fmean(busy) / 100 if busy else None,
        power_calibration_measurement=kwh["baseline"],
        duration_calibration_measurement=_sum(trials, "time/baseline_s"),
        power_consumption=kwh["serve"],
        measurement_duration=_sum(trials, "time/serve_s"),
    )


def _components(made: ModuleType, record: Record) -> list[Any]:
    assert record.capture is not None
    environment = record.capture.environment
    cpu = made.BoAmpsHardware(
        component_type="cpu",
        component_name=environment.get("processor"),
        nb_component=environment.get("processors_usable"),
    )
    ram = made.BoAmpsHardware(
        component_type="ram", nb_component=1, memory_size=environment.get("memory_gib")
    )
    gpus = {
        str(figure.pedigree.get("device"))
        for figure in record.energy
        if figure.domain == "gpu" and figure.summed
    }
    return [
        cpu,
        ram,
        *(
            made.BoAmpsHardware(component_type="gpu", component_name=name, nb_component=1)
            for name in sorted(gpus)
        ),
    ]


def _quality(footprint: Footprint, cell: str) -> str | None:
    """The class of the widest interval that covers the sensors' gain; None where none does."""
    errors = [
        max(row.kwh.high / row.kwh.value - 1, 1 - row.kwh.low / row.kwh.value)
        for row in footprint.rows
        if row.cell == cell
        and row.metric.name in footprint.with_gain
        and row.kwh.low is not None
        and row.kwh.high is not None
    ]
    if not errors:
        return None
    return next((name for most, name in _QUALITY.items() if max(errors) <= most), None)


def _sum(trials: Sequence[Mapping[str, float]], name: str) -> float | None:
    """Over all trials; None where one has no such value."""
    return math.fsum(each[name] for each in trials) if all(name in t for t in trials) else None


def _kwh(joules: float | None) -> float | None:
    return None if joules is None else joules / _J_PER_KWH


def _classes() -> ModuleType:
    """CodeCarbon's module. Importing it looks for GPUs, and prints which it does not find."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        from codecarbon.output_methods import boamps as classes
    return classes
