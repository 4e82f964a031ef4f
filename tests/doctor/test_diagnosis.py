"""The whole look, with the real sampling process: the answer, the exit code, what is printed."""

import dataclasses
import io
import json

import pytest
from rich.console import Console

from slm_energy.config.groups import MeasurementConfig, TrackingConfig
from slm_energy.doctor import Diagnosis, Finding, examine, show
from slm_energy.doctor.diagnosis import HOST_CHECKS
from slm_energy.record import Calibration, Fitted, Source
from slm_energy.serialization import readable
from slm_energy.testing.powercap import PowercapTree, Zone
from slm_energy.testing.waveform import constant

DIAGNOSIS = Diagnosis(
    energy="measured",
    headline="Energy is measured here",
    advice=(),
    machine="m",
    target_error=0.01,
    sources=(),
    notes=(),
    checks=(),
)


@pytest.fixture
def look(config, tmp_path, monkeypatch):
    """Examine this machine with a powercap tree of its own and no GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def look(powercap, mode="auto", **more):
        measurement = MeasurementConfig(name="test", mode=mode, powercap_root=str(powercap), **more)
        tracking = TrackingConfig(name="test", folder=str(tmp_path / "mlruns"))
        asked = dataclasses.replace(config, measurement=measurement, tracking=tracking)
        return examine(asked, tmp_path)

    return look


@pytest.fixture
def tree(tmp_path):
    zones = [
        Zone(folder=f"intel-rapl:0{part}", name=name, waveform=constant(10))
        for part, name in (("", "package-0"), (":0", "dram"))
    ]
    root = tmp_path / "powercap"
    root.mkdir()
    with PowercapTree(root, zones, period_s=0.002) as tree:
        yield tree


def printed(diagnosis):
    file = io.StringIO()
    show(diagnosis, Console(file=file, width=100))
    return file.getvalue()


def verdicts(diagnosis):
    return {check.name: check.verdict for check in diagnosis.checks}


def test_a_machine_with_counters(look, tree):
    found = look(tree.root)
    assert found.energy == "measured"
    assert found.headline.startswith("Energy is measured here: cpu_package, dram; a window of ")
    assert found.exit_code == 0
    summed = [source for source in found.sources if source.summed]
    assert {source.id for source in summed} == {"rapl/intel-rapl:0", "rapl/intel-rapl:0:0"}
    assert all(source.update_period_measured for source in summed)
    assert verdicts(found)["RAPL"] == verdicts(found)["update periods"] == "ok"
    text = printed(found)
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines[0] == found.headline
    assert max(map(len, lines)) <= 100
    assert "counter, summed" in text
    assert str(tree.file("intel-rapl:0")) in text.replace("\n", "")


def test_sources_are_printed_with_their_figures():
    power = Source(
        id="nvml/GPU-1/power",
        kind="power",
        domain="gpu",
        unit="mW",
        update_period_ns=100_000_000,
        resolution=37,
        averaging_ns=1_000_000_000,
        summed=True,
        device="GPU-1 NVIDIA H200",
        path="nvmlDeviceGetPowerUsage",
    )
    perf = dataclasses.replace(power, kind="counter", unit="J/2^32", resolution=2**18)
    gauge = dataclasses.replace(power, id="a_gauge", kind="gauge")
    lines = printed(dataclasses.replace(DIAGNOSIS, sources=(power, perf, gauge))).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("source of"))
    assert lines[start + 1].split("  ")[0] == "gpu"
    assert "0.1 s, documented" in lines[start + 1]
    assert "37 mW" in lines[start + 1]
    assert lines[start + 1].endswith("100 s")
    assert lines[start + 2].endswith("NVIDIA H200, nvmlDeviceGetPowerUsage, mean of 1 s")
    assert "61 uJ" in lines[start + 3]
    assert lines[start + 5] == "and 1 gauges of utilization, memory and heat"


def test_a_calibrated_source_says_against_what_and_when():
    one = Fitted(low=0.9, best=1.0, high=1.1)
    calibration = Calibration(
        reference="wall/power", unix_ns=1_795_900_000 * 10**9, gain=one, offset_w=one, lag_s=one
    )
    source = Source(
        id="p", kind="counter", domain="gpu", unit="uJ", path="file", calibration=calibration
    )
    text = printed(dataclasses.replace(DIAGNOSIS, sources=(source,)))
    assert "  p, file, calibrated against wall/power on 2026-11-28\n" in text


def test_remedies_come_whole_and_failures_first():
    command = "sudo " + "x" * 300
    checks = (
        Finding(name="turbo", verdict="warn", detail="on", remedy=command),
        Finding(name="disk", verdict="fail", detail="full", remedy="make room"),
        Finding(name="swap", verdict="ok", detail="plenty", remedy="none needed"),
    )
    lines = printed(dataclasses.replace(DIAGNOSIS, checks=checks)).splitlines()
    start = lines.index("what to do")
    assert lines[start + 1 : start + 4] == ["disk: make room", f"turbo: {command}", ""]
    assert lines[-1] == "3 checks: 1 ok, 1 warn, 1 fail"


def test_what_does_not_apply_is_one_line():
    checks = (
        Finding(name="MIG", verdict="not applicable", detail="seen only in JSON"),
        Finding(name="swap", verdict="not applicable", detail="seen only in JSON", remedy="no"),
    )
    text = printed(dataclasses.replace(DIAGNOSIS, checks=checks))
    assert "not applicable here: MIG, swap\n\n2 checks: 2 not applicable\n" in text
    assert "seen only" not in text


def test_a_counter_that_cannot_be_read_fails(look, tree):
    tree.set_fault("intel-rapl:0", "unreadable")
    tree.set_fault("intel-rapl:0:0", "unreadable")
    found = look(tree.root)
    assert found.energy == "estimated"
    assert verdicts(found)["RAPL"] == "fail"
    assert found.advice[0].startswith("RAPL: sudo ")
    assert found.exit_code == 1


def test_without_a_sensor_the_first_line_says_so(look, tmp_path):
    found = look(tmp_path / "none")
    first, *rest = printed(found).splitlines()
    assert first == (
        "No energy can be measured here: no sensor can be read; runs carry an estimate, labelled"
        " as one"
    )
    assert "measurement=wall" in "".join(rest[:4])
    assert (found.energy, found.exit_code) == ("estimated", 0)
    assert verdicts(found)["energy"] == "warn"
    assert_json_is_stable(found)


def test_strict_without_a_sensor_fails(look, tmp_path):
    found = look(tmp_path / "none", "strict")
    assert found.headline.startswith("No energy can be measured here: no sensor can be read")
    assert found.headline.endswith("measurement=strict refuses to run")
    assert (verdicts(found)["energy"], found.exit_code) == ("fail", 1)


def test_measurement_off_does_not_fail_for_want_of_a_sensor(look, tmp_path):
    found = look(tmp_path / "none", "off")
    assert (verdicts(found)["energy"], found.exit_code) == ("warn", 0)


def test_a_sampler_that_does_not_start_is_the_answer(look, tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "psutil.py").write_text("raise ImportError('no psutil here')\n")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    found = look(tmp_path / "none")
    assert found.energy == "none"
    assert "the sampler did not start: ImportError: no psutil here" in found.headline
    assert verdicts(found)["sampler"] == "fail"
    assert found.exit_code == 1


def assert_json_is_stable(found):
    """Scripts go by these keys and names: a change of them is a change of `schema`."""
    plain = json.loads(readable(found.to_json()))
    assert list(plain) == [
        "schema",
        "exit_code",
        "energy",
        "headline",
        "advice",
        "machine",
        "target_error",
        "sources",
        "notes",
        "checks",
    ]
    assert {tuple(check) for check in plain["checks"]} == {("name", "verdict", "detail", "remedy")}
    assert all({"id", "kind", "shortest_window_s"} <= set(each) for each in plain["sources"])
    assert [check["name"] for check in plain["checks"]] == [
        "energy",
        "sampler",
        "RAPL",
        "update periods",
        "counters",
        "GPUs metered",
        "GPU processes",
        "GPU persistence",
        "GPU clocks",
        "GPU throttling",
        "MIG",
        "other sweep",
        "machine lock",
        "other load",
        "steal",
        "governor",
        "energy preference",
        "turbo",
        "SMT",
        "throttling",
        "CPU quota",
        "RAPL filter",
        "perf events",
        "virtual machine",
        "container",
        "power supply",
        "memory",
        "swap",
        "clock",
        "clock source",
        "disk",
        "store",
        "sandbox",
    ]


def test_on_this_machine_every_check_has_an_answer():
    findings = [check() for check in HOST_CHECKS]
    assert len({finding.name for finding in findings}) == len(HOST_CHECKS)
    assert all(finding.detail for finding in findings)


def test_a_source_that_is_left_out_is_named(look, tree):
    tree.set_fault("intel-rapl:0:0", "frozen")
    found = look(tree.root)
    assert verdicts(found)["counters"] == "fail"
    (remedy,) = [check.remedy for check in found.checks if check.name == "counters"]
    assert remedy.startswith("measurement.leave_out=[rapl/intel-rapl:0:0] leaves")
    found = look(tree.root, leave_out=("rapl/intel-rapl:0:0",))
    assert verdicts(found)["counters"] == "ok"
    assert "rapl/intel-rapl:0:0" not in {source.id for source in found.sources}
    assert "measurement.leave_out: rapl/intel-rapl:0:0 is neither read" in printed(found)
