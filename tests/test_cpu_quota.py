"""CPU quotas as the kernel reports them, in both versions of control groups; in real ones too."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slm_energy import cpu_quota
from slm_energy.cpu_quota import CpuQuota, Quotas
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
    quota = cpu_quota.read(root(tree)).tightest
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
    quotas = cpu_quota.read(root(tree))
    assert quotas == Quotas()
    assert (quotas.tightest, quotas.worst) == (None, None)


BROKEN = {"cpu.max": "50000 100000\n", "cpu.stat": "usage_usec 9\n"}


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ({"cpu.max": "broken\n"}, "not enough values to unpack (expected 2, got 1)"),
        (BROKEN, "nr_periods"),
        ({"cpu.max": "50000 100000\n"}, "No such file or directory"),
    ],
    ids=["no period", "no counts", "no file of counts"],
)
def test_a_quota_that_cannot_be_read_is_unknown_and_stops_nothing(root, groups, reason):  # noqa: F811
    tree = root(files(V2.format("/"), "/", groups))
    quotas = cpu_quota.read(tree)
    assert reason in quotas.unknown
    assert cpu_quota.usable_processors(tree) == len(os.sched_getaffinity(0))
    assert quotas.since(Quotas()) == Quotas().since(quotas) == quotas


@pytest.mark.parametrize(("quota", "threads"), [("50000", 1), ("199999", 1), ("1600000000", None)])
def test_threads_are_what_the_quota_pays_for_and_never_none(root, quota, threads):  # noqa: F811
    groups = {"cpu.max": f"{quota} 100000\n", "cpu.stat": STAT.format(0, 0, 0)}
    tree = root(files(V2.format("/"), "/", groups))
    assert cpu_quota.usable_processors(tree) == (threads or len(os.sched_getaffinity(0)))


Throttled = Callable[[], None]
"""Returns when the larger quota, of the outer group, has made threads wait."""


@contextlib.contextmanager
def fake_groups(folder: Path) -> Iterator[tuple[Path, int, Throttled]]:
    """A job with 0.3 processors, of which its step may use 0.2, as files."""
    groups = {
        "job/cpu.max": "30000 100000\n",
        "job/cpu.stat": STAT.format(100, 10, 5000),
        "job/step/cpu.max": "20000 100000\n",
        "job/step/cpu.stat": STAT.format(100, 0, 0),
    }
    tree = files(V2.format("/"), "/", groups) | {"proc/77/cgroup": "0::/job/step\n"}
    for name, content in tree.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)

    def throttle() -> None:
        stat = folder / "sys/fs/cgroup/job/cpu.stat"
        stat.write_text(STAT.format(105, 14, 5600))

    yield folder, 77, throttle


CPU_GROUPS = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
REAL = [
    group
    for group in CPU_GROUPS
    if os.access(group, os.W_OK)
    and ((group / "cpu.cfs_quota_us").exists() or (group / "cpu.weight").exists())
]


@contextlib.contextmanager
def real_groups(_folder: Path) -> Iterator[tuple[Path, int, Throttled]]:
    """The same groups of the kernel: a neighbour in the job's group uses up the job's time."""
    job = REAL[0] / f"slm_energy-test-{os.getpid()}"
    places = [job, job / "step", job / "neighbour"]
    with contextlib.ExitStack() as stack:
        for place, quota in zip(places, ("3000", "2000", None), strict=True):
            place.mkdir()
            stack.callback(place.rmdir)
            if quota is not None and (place / "cpu.max").exists():
                (place / "cpu.max").write_text(f"{quota} 10000")
            elif quota is not None:
                (place / "cpu.cfs_period_us").write_text("10000")
                (place / "cpu.cfs_quota_us").write_text(quota)
            if place == job and (job / "cgroup.subtree_control").exists():
                (job / "cgroup.subtree_control").write_text("+cpu")
        pids = []
        for place, work in zip(places[1:], ("read line", "while :; do :; done"), strict=True):
            process = subprocess.Popen(
                ["sh", "-c", f"echo $$ > {place / 'cgroup.procs'}; echo; {work}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            process.stdout.readline()
            pids.append(process.pid)

        def throttle() -> None:
            before_us = cpu_quota.read(pids=pids).groups[0].throttled_us  # when the wait has ended
            while cpu_quota.read(pids=pids).groups[0].throttled_us == before_us:
                time.sleep(0.005)

        yield Path("/"), pids[0], throttle


@pytest.mark.parametrize("groups", [fake_groups, *([real_groups] if REAL else [])])
def test_a_larger_quota_further_out_that_makes_threads_wait_is_not_missed(tmp_path, groups):
    with groups(tmp_path) as (place, pid, throttle):
        timeline = Timeline(None, quotas=lambda pids: cpu_quota.read(place, pids))
        timeline.adopt(pid)
        with timeline.window("serve"):
            throttle()
        quotas = timeline.windows[0].withheld
    assert quotas.unknown == ""
    assert quotas.tightest.processors == 0.2
    assert quotas.tightest.throttled_periods == 0
    assert quotas.worst.processors == 0.3
    assert quotas.worst.throttled_periods > 0
    assert quotas.worst.throttled_us > 0
    assert quotas.worst.throttled_pct > 0


def test_the_quota_of_a_server_in_another_group_counts(root):  # noqa: F811
    tree = root(files(V2.format("/"), "/other", POD) | {"proc/77/cgroup": "0::/pods/one/job\n"})
    assert cpu_quota.read(tree) == Quotas()
    quotas = cpu_quota.read(tree, pids=(77,))
    assert [quota.folder for quota in quotas.groups] == [
        "/sys/fs/cgroup/pods",
        "/sys/fs/cgroup/pods/one",
    ]


@pytest.mark.parametrize(
    ("mount", "name", "reason"),
    [
        ("/", "/../../docker/b2", "the control group /../../docker/b2 of process 77"),
        ("/docker/a1", "/docker/b2", "the control group /docker/b2 of process 77"),
        ("/", None, "proc/77/cgroup"),
    ],
    ids=["outside the namespace", "not mounted", "ended"],
)
def test_the_quota_of_a_server_that_cannot_be_seen_is_unknown(root, mount, name, reason):  # noqa: F811
    tree = files(V2.format(mount), mount, {})
    tree |= {} if name is None else {"proc/77/cgroup": f"0::{name}\n"}
    assert reason in cpu_quota.read(root(tree), pids=(77,)).unknown


@pytest.mark.parametrize(
    ("name", "quota"),
    [("/pods", 400000), ("/pods/one", 200000)],
    ids=["moved to another group", "the quota was changed"],
)
def test_what_changed_within_a_window_is_unknown(root, name, quota):  # noqa: F811
    before = cpu_quota.read(root(files(V2.format("/"), "/pods/one", POD)))
    after = POD | {"pods/one/cpu.max": f"{quota} 100000\n"}
    now = cpu_quota.read(root(files(V2.format("/"), name, after)))
    assert now.since(before).unknown == "the control group or its quota changed meanwhile"


@pytest.mark.parametrize(
    ("groups", "verdict", "detail"),
    [
        (
            {"cpu.max": "50000 100000\n", "cpu.stat": STAT.format(231, 218, 9)},
            "warn",
            "0.5 processors (50 ms in each 100 ms) by /sys/fs/cgroup, throttled in 218 of 231"
            " periods so far",
        ),
        (
            {
                "cpu.max": "90000 100000\n",
                "cpu.stat": STAT.format(9, 3, 9),
                "a/cpu.max": "50000 100000\n",
                "a/cpu.stat": STAT.format(7, 0, 0),
            },
            "warn",
            "0.5 processors (50 ms in each 100 ms) by /sys/fs/cgroup/a, throttled in 3 of 9"
            " periods so far by /sys/fs/cgroup",
        ),
        ({"cpu.max": "max 100000\n"}, "ok", "none"),
        (
            {"cpu.max": "broken\n"},
            "unknown",
            "the CPU quota cannot be read: not enough values to unpack (expected 2, got 1)",
        ),
    ],
    ids=["a quota", "two quotas", "none", "broken"],
)
def test_doctor_names_the_quota(root, groups, verdict, detail):  # noqa: F811
    finding = processor.quota(root(files(V2.format("/"), "/a", groups)))
    assert (finding.verdict, finding.detail) == (verdict, detail)


def checked(config, **of_window):
    """The record of a trial whose windows have this of quotas, and its check of them."""
    capture = a_capture()
    windows = tuple(dataclasses.replace(w, **of_window) for w in capture.windows)
    record = trial.derive(a_trial(config), dataclasses.replace(capture, windows=windows), 0)
    [check] = [check for check in record.checks if check.name == "quota_not_throttled"]
    return record, check


def a_quota(throttled_periods: int, name: str = "pod", quota_us: int = 50_000) -> CpuQuota:
    return CpuQuota(
        folder=f"/sys/fs/cgroup/{name}",
        quota_us=quota_us,
        period_us=100_000,
        periods=100,
        throttled_periods=throttled_periods,
        throttled_us=1,
    )


@pytest.mark.parametrize(("throttled", "passed"), [(5, True), (6, False)])
@pytest.mark.parametrize("version", ["stored before", "now"])
def test_a_trial_that_its_quota_stopped_is_invalid(config, throttled, passed, version):
    quota, tighter = a_quota(throttled), a_quota(0, "pod/step", 40_000)
    of_window = {"quota": quota} if version == "stored before" else {}
    if version == "now":
        of_window = {"quotas": Quotas(groups=(quota, tighter))}
    record, check = checked(config, **of_window)
    assert record.metrics["utilization/quota_throttled_pct"] == throttled
    assert check.passed is passed
    assert "0.5 processors of /sys/fs/cgroup/pod " in check.detail
    assert ("raise the quota" in check.detail) is not passed


@pytest.mark.parametrize(
    ("quotas", "detail"),
    [
        (Quotas(), "there is no CPU quota"),
        (Quotas(unknown="cannot be read"), "cannot be read"),
        (None, "there is no CPU quota, or it is unknown"),
    ],
    ids=["none", "unknown", "stored before"],
)
def test_a_check_says_that_a_quota_is_unknown(config, quotas, detail):
    record, check = checked(config, quotas=quotas)
    assert (check.passed, check.detail) == (None, detail)
    assert "utilization/quota_throttled_pct" not in record.metrics


@pytest.mark.parametrize(
    ("quotas", "line"),
    [
        (
            Quotas(groups=(a_quota(0),)),
            "CPU quota: 0.5 processors by /sys/fs/cgroup/pod: even one thread is",
        ),
        (Quotas(unknown="it cannot be read"), "CPU quota: it cannot be read"),
    ],
    ids=["less than one processor", "unknown"],
)
def test_a_plan_warns_of_the_quota(slm_energy, monkeypatch, quotas, line):
    monkeypatch.setattr(cpu_quota, "read", lambda: quotas)
    done = slm_energy("plan")
    assert done.returncode == 0, done.stderr
    assert line in done.stdout
