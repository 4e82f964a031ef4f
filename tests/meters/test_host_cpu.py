"""Real files in a folder instead of /sys/devices/system/cpu."""

import pytest

from slm_energy.meters.host_cpu import Governor, Temperature, Throttling


def write(root, name, text):
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")


def cpu(root, number, *, package, core, core_ms, package_ms):
    write(root, f"cpu{number}/topology/physical_package_id", package)
    write(root, f"cpu{number}/topology/core_id", core)
    write(root, f"cpu{number}/thermal_throttle/core_throttle_total_time_ms", core_ms)
    write(root, f"cpu{number}/thermal_throttle/package_throttle_total_time_ms", package_ms)


def test_each_core_and_package_is_read_once(tmp_path):
    """Two packages of one core each, with two threads per core."""
    cpu(tmp_path, 0, package=0, core=0, core_ms=10, package_ms=1000)
    cpu(tmp_path, 1, package=1, core=0, core_ms=20, package_ms=2000)
    cpu(tmp_path, 2, package=0, core=0, core_ms=10, package_ms=1000)
    cpu(tmp_path, 3, package=1, core=0, core_ms=20, package_ms=2000)
    assert sorted(Throttling(tmp_path).seconds()) == [0.01, 0.02, 1.0, 2.0]


def test_other_folders_there_are_no_processors(tmp_path):
    cpu(tmp_path, 0, package=0, core=0, core_ms=10, package_ms=1000)
    write(tmp_path, "cpufreq/policy0/scaling_governor", "powersave")
    write(tmp_path, "cpuidle/current_driver", "none")
    assert len(Throttling(tmp_path).seconds()) == 2


def test_a_processor_that_is_switched_off_is_left_out(tmp_path):
    cpu(tmp_path, 0, package=0, core=0, core_ms=10, package_ms=1000)
    (tmp_path / "cpu1").mkdir()
    assert len(Throttling(tmp_path).seconds()) == 2


def test_the_temperature_is_that_of_the_hottest_sensor_of_the_processor(tmp_path):
    write(tmp_path, "hwmon0/name", "nvme")
    write(tmp_path, "hwmon0/temp1_input", 90_000)
    assert not Temperature(tmp_path)
    write(tmp_path, "hwmon1/name", "coretemp")
    write(tmp_path, "hwmon1/temp1_input", 41_000)
    write(tmp_path, "hwmon1/temp2_input", 43_500)
    assert Temperature(tmp_path).celsius() == 43.5


def test_a_machine_that_counts_nothing_has_nothing(tmp_path):
    write(tmp_path, "cpu0/topology/physical_package_id", 0)
    write(tmp_path, "cpu0/topology/core_id", 0)
    assert not Throttling(tmp_path)
    assert not Governor(tmp_path)


def test_a_count_that_is_no_number_is_an_error(tmp_path):
    cpu(tmp_path, 0, package=0, core=0, core_ms="?", package_ms=0)
    with pytest.raises(ValueError, match="invalid literal"):
        Throttling(tmp_path).seconds()


@pytest.mark.parametrize(
    "name",
    [
        "cpufreq/policy0/scaling_governor",
        "cpufreq/policy7/energy_performance_preference",
        "cpufreq/boost",
        "intel_pstate/no_turbo",
    ],
)
def test_every_setting_is_seen(tmp_path, name):
    write(tmp_path, name, "before")
    governor = Governor(tmp_path)
    before = governor.settings()
    write(tmp_path, name, "after")
    assert governor
    assert governor.settings() != before
