"""Memory limits of control groups, in both versions: what is left, and which one was in the way."""

from __future__ import annotations

import signal

import pytest

from slm_energy import memory_limit
from slm_energy.doctor import system
from slm_energy.worker.child import exit_error
from tests.doctor.conftest import root  # noqa: F401

GB = 1_000_000_000
MEMINFO = "MemTotal:       24700000 kB\nMemAvailable:   20000000 kB\n"
V2 = "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1 = "32 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
UNLIMITED = 9223372036854771712


def group_v2(limit, used=0, cache=0, oom=0):
    events = f"low 0\nhigh 0\nmax 9\noom {oom}\noom_kill {oom}\n"
    stat = f"anon 1\nfile {cache}\ninactive_file {cache}\n"
    texts = {"max": f"{limit}\n", "current": f"{used}\n", "stat": stat, "events": events}
    return {f"memory.{name}": text for name, text in texts.items()}


def group_v1(limit, used=0, cache=0, oom=0):
    return {
        "memory.limit_in_bytes": f"{limit}\n",
        "memory.usage_in_bytes": f"{used}\n",
        "memory.stat": f"inactive_file 1\ntotal_inactive_file {cache}\n",
        "memory.failcnt": f"{oom}\n",
    }


def files(version, outer, inner):
    """A process in the group /job/step, whose groups have these files."""
    place = "sys/fs/cgroup" if version == 2 else "sys/fs/cgroup/memory"
    tree = {
        "proc/meminfo": MEMINFO,
        "proc/self/mountinfo": V2 if version == 2 else V1,
        "proc/self/cgroup": "0::/job/step\n" if version == 2 else "4:memory:/job/step\n",
    }
    tree |= {f"{place}/job/{name}": text for name, text in outer.items()}
    return tree | {f"{place}/job/step/{name}": text for name, text in inner.items()}


TWO = {
    "version 2": files(2, group_v2(8 * GB, 3 * GB, GB), group_v2("max")),
    "version 1": files(1, group_v1(8 * GB, 3 * GB, GB), group_v1(UNLIMITED)),
}


@pytest.mark.parametrize("tree", TWO.values(), ids=TWO)
def test_cache_that_the_kernel_takes_back_is_free(root, tree):  # noqa: F811
    limits = memory_limit.read(root(tree))
    assert limits.unknown == ""
    (limit,) = limits.groups
    assert limits.tightest == limit
    assert limit.folder.endswith("/job")
    assert (limit.limit_bytes, limit.free_bytes) == (8 * GB, 6 * GB)


@pytest.mark.parametrize(
    ("tree", "verdict", "detail"),
    [
        (
            files(2, group_v2(8 * GB, 3 * GB, GB), group_v2(2 * GB, GB)),
            "warn",
            "1.0 of 2.0 GB available: the limit of /sys/fs/cgroup/job/step",
        ),
        (
            files(1, group_v1(8 * GB, 3 * GB, GB), group_v1(UNLIMITED)),
            "ok",
            "6.0 of 8.0 GB available: the limit of /sys/fs/cgroup/memory/job",
        ),
        (files(2, group_v2(99 * GB), {}), "ok", "20.5 of 25.3 GB available"),
        (
            files(2, group_v2("much"), {}),
            "unknown",
            "20.5 of 25.3 GB available; the memory limit cannot be read: invalid literal for int()"
            " with base 10: 'much'",
        ),
    ],
    ids=["the inner group", "the outer group", "a limit above the machine's", "broken"],
)
def test_doctor_compares_with_what_the_groups_allow(root, tree, verdict, detail):  # noqa: F811
    finding = system.memory(root(tree))
    assert (finding.verdict, finding.detail) == (verdict, detail)


@pytest.mark.parametrize(
    ("group", "version"), [(group_v2, 2), (group_v1, 1)], ids=["version 2", "version 1"]
)
@pytest.mark.parametrize(
    ("outer", "inner", "reached"),
    [(1, 1, "/job/step"), (1, 0, "/job"), (0, 0, None)],
    ids=["the inner one", "the outer one", "neither"],
)
def test_the_limit_that_was_in_the_way_is_named(root, group, version, outer, inner, reached):  # noqa: F811
    before = memory_limit.read(root(files(version, group(8 * GB), group(4 * GB))))
    after = files(version, group(8 * GB, oom=outer), group(4 * GB, oom=inner))
    limit = memory_limit.read(root(after)).reached_since(before)
    assert limit is None if reached is None else limit.folder.endswith(reached)


def test_a_worker_that_a_limit_killed_is_said_to_be(root):  # noqa: F811
    (limit,) = memory_limit.read(root(TWO["version 2"])).groups
    assert exit_error(-int(signal.SIGKILL), None, 4, 5, limit) == (
        "out of memory: the control group /sys/fs/cgroup/job allows 8.0 GB, and the kernel killed"
        " the worker (SIGKILL); raise that limit (docker --memory, the pod's memory limit, the"
        " job's --mem), or try a smaller workload.batch_size, engine.dtype or model"
    )


def test_a_limit_in_the_way_is_not_the_cause_if_the_kernel_killed_nobody(root):  # noqa: F811
    (limit,) = memory_limit.read(root(TWO["version 2"])).groups
    assert "not by the kernel" in exit_error(-int(signal.SIGKILL), None, 4, 4, limit)
