"""CPU quotas as the kernel reports them, in both versions of control groups."""

from __future__ import annotations

import dataclasses
import os

import pytest

from slm_energy import cpu_quota
from slm_energy.doctor import processor
from slm_energy.running import trial
from slm_energy.worker.timeline import Timeline
from tests.captures import a_capture
from tests.conftest import a_trial
from tests.doctor.conftest import root  # noqa: F401

V2 = "29 23 0:26 {} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "32 31 0:29 {} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
STAT = "usage_usec 9\nnr_periods {}\nnr_throttled {}\nthrottled_usec {}\n"
STAT_V1 = "nr_periods 231\nnr_throttled 218\nthrottled_time 9000000000\n"


def files(mount, name, groups):
    """A process in the group `name`, and files of groups below the mount point."""
    number = "0:" if "cgroup2" in mount else "4:cpu,cpuacct"
    place = mount.split()[4].lstrip("/")
    return {
        "proc/self/cgroup": f"1:name=systemd:/init\n{number}:{name}\n",
        "proc/self/mountinfo": mount,
    } | {f"{place}/{path}": content for path, content in groups.items()}


POD = {
    "pods/cpu.max": "150000 100000\n",
    "pods/cpu.stat": STAT.format(10, 5, 700),
    "pods/one/cpu.max": "400000 100000\n",
    "pods/one/cpu.stat": STAT.format(20, 0, 0),
    "pods/one/job/cpu.max": "max 100000\n",
}
OWN = {"cpu.max": "250000 100000\n", "cpu.stat": STAT.format(4, 1, 9)}
OLD = {"cpu.cfs_quota_us": "50000\n", "cpu.cfs_period_us": "100000\n", "cpu.stat": STAT_V1}
FREE = {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("tree", "processors", "folder", "throttled"),
    [
        (files(V2.format("/"), "/pods/one/job", POD), 1.5, "/sys/fs/cgroup/pods", (5, 10, 700)),
        (files(V2.format("/"), "/", OWN), 2.5, "/sys/fs/cgroup", (1, 4, 9)),
        (
            files(V1.format("/docker/a1"), "/docker/a1", OLD),
            0.5,
            "/sys/fs/cgroup/cpu,cpuacct",
            (218, 231, 9_000_000),
        ),
    ],
    ids=["the tightest ancestor counts", "a container's own root", "version 1 in docker"],
)
def test_the_tightest_quota(root, tree, processors, folder, throttled):  # noqa: F811
    quota = cpu_quota.read(root(tree))
    assert (quota.processors, quota.folder) == (processors, folder)
    assert (quota.throttled_periods, quota.periods, quota.throttled_us) == throttled


@pytest.mark.parametrize(
    "tree",
    [
        files(V1.format("/"), "/", FREE),
        files(V2.format("/"), "/a", {"a/cpu.max": "max 100000\n"}),
        files(V2.format("/"), "/a", {}),
        {},
    ],
    ids=["version 1", "version 2", "no controller", "no control groups"],
)
def test_no_quota(root, tree):  # noqa: F811
    assert cpu_quota.read(root(tree)) is None


@pytest.mark.parametrize(("quota", "threads"), [("50000", 1), ("199999", 1), ("1600000000", None)])
def test_threads_are_what_the_quota_pays_for_and_never_none(root, quota, threads):  # noqa: F811
    groups = {"cpu.max": f"{quota} 100000\n", "cpu.stat": STAT.format(0, 0, 0)}
    tree = root(files(V2.format("/"), "/", groups))
    assert cpu_quota.usable_processors(tree) == (threads or len(os.sched_getaffinity(0)))


def test_a_window_holds_what_was_throttled_within_it(root):  # noqa: F811
    groups = {"cpu.max": "50000 100000\n", "cpu.stat": STAT.format(100, 90, 5000)}
    place = root(files(V2.format("/"), "/", groups))
    timeline = Timeline(None, quota=lambda: cpu_quota.read(place))
    with timeline.window("serve"):
        (place / "sys/fs/cgroup/cpu.stat").write_text(STAT.format(110, 94, 5600))
    quota = timeline.windows[0].quota
    assert quota is not None
    assert (quota.periods, quota.throttled_periods, quota.throttled_us) == (10, 4, 600)
    assert quota.throttled_pct == 40.0


def test_moved_to_another_group_within_a_window_is_unknown(root):  # noqa: F811
    before, after = (
        cpu_quota.read(root(files(V2.format("/"), name, POD))) for name in ("/pods", "/")
    )
    assert before is not None
    assert after is None
    other = cpu_quota.read(root(files(V2.format("/"), "/", OWN)))
    assert other is not None
    assert other.since(before) is None


@pytest.mark.parametrize(
    ("groups", "verdict", "detail"),
    [
        (
            {"cpu.max": "50000 100000\n", "cpu.stat": STAT.format(231, 218, 9)},
            "warn",
            "0.5 processors (50 ms in each 100 ms) by /sys/fs/cgroup, throttled in 218 of 231"
            " periods so far",
        ),
        ({"cpu.max": "max 100000\n"}, "ok", "none"),
        ({"cpu.max": "broken\n"}, "unknown", "not enough values to unpack (expected 2, got 1)"),
    ],
)
def test_doctor_names_the_quota(root, groups, verdict, detail):  # noqa: F811
    finding = processor.quota(root(files(V2.format("/"), "/", groups)))
    assert (finding.verdict, finding.detail) == (verdict, detail)


@pytest.mark.parametrize(("throttled", "passed"), [(5, True), (6, False)])
def test_a_trial_that_its_quota_stopped_is_invalid(config, throttled, passed):
    entry, capture = a_trial(config), a_capture()
    quota = cpu_quota.CpuQuota(
        folder="/sys/fs/cgroup/pod",
        quota_us=50_000,
        period_us=100_000,
        periods=100,
        throttled_periods=throttled,
        throttled_us=1,
    )
    windows = tuple(dataclasses.replace(w, quota=quota) for w in capture.windows)
    record = trial.derive(entry, dataclasses.replace(capture, windows=windows), 0)
    assert record.metrics["utilization/quota_throttled_pct"] == throttled
    [check] = [check for check in record.checks if check.name == "quota_not_throttled"]
    assert check.passed is passed
    assert "0.5 processors of /sys/fs/cgroup/pod" in check.detail
    assert ("raise the quota" in check.detail) is not passed


def test_a_plan_warns_of_less_than_one_processor(slm_energy, root, monkeypatch):  # noqa: F811
    groups = {"cpu.max": "50000 100000\n", "cpu.stat": STAT.format(0, 0, 0)}
    quota = cpu_quota.read(root(files(V2.format("/"), "/", groups)))
    monkeypatch.setattr(cpu_quota, "read", lambda: quota)
    done = slm_energy("plan")
    assert done.returncode == 0, done.stderr
    assert "CPU quota: 0.5 processors by /sys/fs/cgroup: even one thread is" in done.stdout
