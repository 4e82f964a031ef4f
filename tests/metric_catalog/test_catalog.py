"""No metric is stored that the list does not have."""

from __future__ import annotations

import dataclasses
import io
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from slm_energy.analysis.build import build
from slm_energy.analysis.options import METRICS as COMPARED
from slm_energy.analysis.render.files import files
from slm_energy.config.groups import (
    LoadConfig,
    MeasurementConfig,
    RunConfig,
    SloConfig,
    TrackingConfig,
)
from slm_energy.config.options import AnalysisOptions
from slm_energy.cpu_quota import CpuQuota
from slm_energy.derive import metrics, solved
from slm_energy.meters.domains import KNOWN
from slm_energy.metric_catalog import gauges
from slm_energy.metric_catalog.catalog import (
    GROUPS,
    METRICS,
    PLACEHOLDERS,
    WINDOWS,
    describe,
    find,
    listed,
)
from slm_energy.record import (
    Capture,
    LoadReport,
    Record,
    SamplerReport,
    Series,
    TaskScore,
    WarmUp,
    Window,
)
from slm_energy.running import trial
from slm_energy.store import artifacts, mlflow_schema
from slm_energy.store.tracking import Store
from tests.captures import S, a_capture, a_counter, a_flat_gauge, a_reference
from tests.conftest import a_cell, a_trial

ROOT = Path(__file__).parents[2]
GAUGES = (
    *(gauge.source.format(index=index) for gauge in gauges.GAUGES for index in (0, 1, 12)),
    "amdgpu_0_temperature_celsius",
    "gpu_fan",
    "gpu_0_fan_percentage",
    "rack/inlet temperature",
)


def a_source(name: str, domain: str, kind: str = "counter", *, summed: bool = False) -> Series:
    """Readings of the usual counter, or of its constant power, under another name."""
    series = a_counter()
    source = dataclasses.replace(
        series.source, id=name, kind=kind, domain=domain, summed=summed, device=name.split("/")[0]
    )
    if kind == "power":
        source = dataclasses.replace(source, unit="mW")
        return dataclasses.replace(series, source=source, raw=(10_000,) * len(series.raw))
    return dataclasses.replace(series, source=source)


def energy_sources() -> Iterator[Series]:
    """Every domain, two GPUs seen by counter and by power, a platform and a wall meter."""
    for domain in KNOWN:
        yield a_source(f"one/{domain}", domain, summed=domain in ("cpu_package", "dram", "gpu"))
    yield a_source("one/gpu power", "gpu", "power")
    yield a_source("two/gpu", "gpu", summed=True)
    yield a_source("two/gpu power", "gpu", "power")
    yield a_source("vendor/fan tray", "fan-tray")
    yield a_counter("estimate")


def temperature(name: str) -> Series:
    gauge = a_flat_gauge(name, 40.0)
    return dataclasses.replace(gauge, source=dataclasses.replace(gauge.source, unit="C"))


def rich_capture() -> Capture:
    """All windows, sources, gauges and reports that a trial can have."""
    plain = a_capture()
    before_serving = [
        Window(name=name, start_ns=at * S // 2, end_ns=(at + 1) * S // 2, passes=1)
        for at, name in enumerate(WINDOWS[:-1], start=2)
        if name != "baseline"
    ]
    # Long enough for its unsteadiness to be known.
    before_serving.append(Window(name="baseline", start_ns=S // 2, end_ns=4 * S))
    temperatures = [name for name in GAUGES if "temperature" in name]
    quota = CpuQuota(
        folder="/sys/fs/cgroup",
        quota_us=50_000,
        period_us=100_000,
        periods=100,
        throttled_periods=1,
        throttled_us=9,
    )
    return dataclasses.replace(
        plain,
        effective=plain.effective | {"weights": {"bits_per_weight": 4.5, "bytes": 9_000}},
        windows=(*before_serving, dataclasses.replace(plain.windows[-1], quota=quota)),
        warmup=WarmUp(paces_ns=(3, 2, 2), steady=True),
        reference=a_reference(plain.generations),
        sampler=SamplerReport(
            period_s=0.1, cpu_s=0.01, wall_s=10.0, finished=True, largest_pause_s=0.1
        ),
        series=(
            *energy_sources(),
            *(temperature(name) for name in temperatures),
            *(a_flat_gauge(name, 0.0) for name in GAUGES if name not in temperatures),
        ),
    )


def loaded_capture() -> Capture:
    """A rich capture whose requests came from a load, some of them aborted."""
    rich = rich_capture()
    first, *rest = (
        dataclasses.replace(each, due_ns=each.start_ns, ended_ns=each.token_ns[-1])
        for each in rich.generations
    )
    return dataclasses.replace(
        rich,
        generations=(dataclasses.replace(first, ended="aborted"), *rest * 40),
        load=LoadReport(steady=True, client_cpu_s=0.1, queue_mean_s=0.01, reader_late_p99_s=0.001),
    )


def derived(capture: Capture) -> dict[str, float]:
    """The metrics of a capture with a score; it came from an open load, if from any."""
    load = LoadConfig(name="open", mode="open", rate=1.0, slo=SloConfig(e2e_s=10.0))
    energy = metrics.energy_figures(capture, MeasurementConfig(name="test"))
    values = metrics.derive(capture, energy, load)
    return values | solved.metrics((TaskScore(task_id="a", verdict="passed"),), values)


def devices_only(capture: Capture) -> Capture:
    """The capture of a GPU's trial where no sensor covers the processors."""
    series = tuple(s for s in capture.series if s.source.domain == "gpu")
    effective = capture.effective | {"provider": "cuda"}
    return dataclasses.replace(capture, series=series, effective=effective)


@pytest.fixture
def record(config: RunConfig) -> Record:
    """A valid trial that has everything."""
    measurement = MeasurementConfig(name="test")
    cell = a_cell(config, measurement=measurement)
    derived = trial.derive(a_trial(config, cell=cell), rich_capture(), 0)
    phases = dict.fromkeys(("build", "prepare", "reference", "gate", "worker", "derive"), 1.0)
    return dataclasses.replace(solved_too(derived), phases_s=phases, duration_s=20.0)


def solved_too(record: Record) -> Record:
    """The record with scores."""
    scores = (TaskScore(task_id="a", verdict="passed"),)
    return dataclasses.replace(
        record,
        scores=scores,
        scoring=1,
        metrics=record.metrics | solved.metrics(scores, record.metrics),
    )


def test_every_entry_is_stored_by_some_trial_and_every_stored_name_has_an_entry(
    record: Record,
) -> None:
    names = {*mlflow_schema.metrics(record)} | {*derived(loaded_capture())}
    names |= {*derived(devices_only(rich_capture()))} | {*derived(devices_only(loaded_capture()))}
    names |= {point.name for point in mlflow_schema.system_series(record)}
    assert [name for name in names if find(name) is None] == []
    entries = {find(name) for name in names}
    unused = [
        metric.name
        for metric in METRICS
        if "{" not in metric.name and find(metric.name) not in entries
    ]
    assert unused == []
    assert {metric.group for metric in METRICS} == {name.partition("/")[0] for name in names}


def test_what_mlflow_gives_back_and_the_reports_table_have_no_other_metric(
    record: Record, tmp_path: Path, empty_store: Path
) -> None:
    tracking = TrackingConfig(name="local", folder=str(tmp_path / "mlruns"))
    Path(tracking.folder).mkdir()
    shutil.copy(empty_store, tracking.folder)
    store = Store(tracking)
    parent = store.open_sweep("test", "s1", "here-123456", "note")
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        entry = dataclasses.replace(record.trial, id=f"t{number}", round=number, order=number)
        repeated = dataclasses.replace(record, trial=entry)
        artifacts.write(folder, repeated, {})
        store.store(repeated, folder, parent, "here-123456")
    frame = store.frame("test")
    report = build(frame, AnalysisOptions(study="test"))
    table = pd.read_parquet(io.BytesIO(files(report).contents["trials.parquet"]))
    for columns in (frame.columns, table.columns):
        stored = [name for name in columns if "/" in name]
        assert "energy/total_j" in stored
        assert [name for name in stored if find(name) is None] == []


def test_deriving_a_metric_that_is_not_listed_is_an_error() -> None:
    plain = a_capture()
    unknown = Window(name="shutdown", start_ns=8 * S, end_ns=9 * S)
    capture = dataclasses.replace(plain, windows=(*plain.windows, unknown))
    with pytest.raises(ValueError, match="time/shutdown_s is missing from the list of metrics"):
        metrics.derive(capture, (), LoadConfig())
    assert listed({"time/serve_s": 1.0}) == {"time/serve_s": 1.0}


def test_the_metrics_that_a_report_compares_have_a_direction() -> None:
    assert {describe(name).better for name in COMPARED} == {"lower", "higher"}


@pytest.mark.parametrize(
    ("name", "title", "unit"),
    [
        ("energy/total_j", "total energy of all passes", "J"),
        ("energy/cpu_package_j", "CPU package energy", "J"),
        ("energy/load_total_j", "load total energy", "J"),
        ("energy/load_dram_high_j", "load DRAM energy, upper bound", "J"),
        ("energy_devices/per_output_token_j", "device energy per output token", "J/token"),
        ("energy_devices/sum_j", "device energy of all passes", "J"),
        ("energy_devices/load_sum_high_j", "load device energy, upper bound", "J"),
        ("energy_estimated/per_request_low_j", "energy per request, lower bound", "J"),
        ("energy/fan-tray_j", "fan-tray energy", "J"),
        ("latency/ttft_p95_s", "TTFT p95", "s"),
        ("time/phase_gate_s", "gate phase time", "s"),
        ("memory/gpu_peak_mb", "GPU peak memory", "MB"),
        ("thermal/gpu3_start_c", "GPU 3 start temperature", "°C"),
        ("utilization/gpu_clock1_peak_mhz", "GPU 1 peak clock", "MHz"),
        ("crosscheck/sum_to_wall_ratio", "sum to wall meter ratio", "ratio"),
        ("gauge/rack/inlet_mean_value", "rack/inlet mean", ""),
        ("system/gpu_0_throttled", "GPU 0 throttled over time", ""),
    ],
)
def test_a_stored_name_is_described(name: str, title: str, unit: str) -> None:
    definition = describe(name)
    assert (definition.name, definition.title, definition.unit.stored) == (name, title, unit)
    assert "{" not in f"{definition.meaning} {definition.origin}"


@pytest.mark.parametrize("name", ["latency/none_s", "time/shutdown_s", "energy/total_w", "total"])
def test_other_names_are_not_in_the_list(name: str) -> None:
    assert find(name) is None
    with pytest.raises(ValueError, match=name):
        describe(name)


def test_every_entry_is_complete_and_named_once() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert metric.title
        assert metric.origin
        assert metric.meaning.endswith(".")
        assert metric.group in GROUPS
    assert all(domain in PLACEHOLDERS["domain"].values for domain in KNOWN)


def test_the_reference_page_is_up_to_date() -> None:
    reference = runpy.run_path(str(ROOT / "tools" / "metric_reference.py"))["reference"]
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    assert page == reference(), "run: python tools/metric_reference.py"
