"""Foreign load and steal between two looks at `/proc`, and the lock of another sweep."""

import os

import pytest

from slm_energy.doctor.contention import (
    another_sweep,
    busiest,
    foreign_load,
    machine_lock,
    steal,
    usage,
)
from slm_energy.machine import measuring

BEFORE = (1000, 0, 500, 8000, 100, 0, 0, 50)


def look(folder, columns, processes=(), load="0.50 0.30 0.20 1/94 10027"):
    """`/proc` of a machine with two processors: `processes` maps ids to name, user, system time."""
    proc = folder / "proc"
    proc.mkdir(parents=True)
    row = " ".join(map(str, columns))
    half = " ".join(str(each // 2) for each in columns)
    (proc / "stat").write_text(f"cpu  {row} 0 0\ncpu0 {half} 0 0\ncpu1 {half} 0 0\nintr 1 2\n")
    (proc / "loadavg").write_text(load + "\n")
    for pid, (name, user, system) in dict(processes).items():
        (proc / str(pid)).mkdir()
        parent = 77 if name == "child" else 1
        head = f"{pid} ({name}) S {parent} 1 1 0 -1 4194560 12 0 0 0"
        (proc / str(pid) / "stat").write_text(f"{head} {user} {system} 0 0 20 0 1 0\n")
    return usage(folder)


def later(**spent):
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    return tuple(a + spent.get(name, 0) for a, name in zip(BEFORE, names, strict=True))


def test_foreign_load_names_the_busiest_and_leaves_out_this_process(tmp_path):
    before = look(tmp_path / "a", BEFORE, {os.getpid(): ("me", 5, 5), 77: ("web) (x", 10, 10)})
    after = look(
        tmp_path / "b",
        later(user=80, idle=120),
        {os.getpid(): ("me", 25, 5), 77: ("web) (x", 60, 10), 78: ("new", 10, 0)},
    )
    found = foreign_load(before, after, limit_pct=10)
    assert found.verdict == "warn"
    assert found.detail == (
        "30.0 % of all processors, load average 0.50;"
        " busiest: web) (x (77) 50 % of one, new (78) 10 % of one"
    )
    assert "measurement.limits.foreign_cpu_pct=10" in found.remedy
    assert foreign_load(before, after, limit_pct=30).verdict == "ok"


def test_a_process_is_left_out_with_its_descendants(tmp_path):
    before = look(tmp_path / "a", BEFORE)
    running = {77: ("server", 60, 0), 78: ("child", 50, 0), 79: ("make", 10, 0)}
    after = look(tmp_path / "b", later(user=120, idle=80), running)
    assert busiest(before, after, own=[77]) == ("make (79) 10 % of one",)
    assert len(busiest(before, after, own=[])) == 3


def test_steal_and_iowait_are_no_foreign_load(tmp_path):
    before = look(tmp_path / "a", BEFORE)
    after = look(tmp_path / "b", later(idle=100, iowait=50, steal=50))
    found = foreign_load(before, after, limit_pct=10)
    assert (found.verdict, found.detail) == ("ok", "0.0 % of all processors, load average 0.50")


@pytest.mark.parametrize(("limit_pct", "verdict"), [(5, "warn"), (25, "ok")])
def test_steal(tmp_path, limit_pct, verdict):
    before = look(tmp_path / "a", BEFORE)
    after = look(tmp_path / "b", later(user=100, idle=50, steal=50))
    found = steal(before, after, limit_pct)
    assert (found.verdict, found.detail) == (verdict, "25.0 % of all processor time")


def test_without_proc_nothing_is_known(tmp_path):
    nothing = usage(tmp_path)
    assert foreign_load(nothing, nothing, 10).verdict == "unknown"
    assert steal(nothing, nothing, 5).verdict == "unknown"


def test_no_other_sweep(own_lock):
    assert another_sweep().verdict == "ok"
    assert another_sweep().verdict == "ok"


def test_another_sweep_measures_now(own_lock):
    def waited(path):
        raise AssertionError(path)

    with measuring(waited):
        found = another_sweep()
    assert found.verdict == "warn"
    assert str(own_lock) in found.detail


def test_a_lock_that_cannot_be_opened(own_lock):
    own_lock.symlink_to(own_lock)
    found = another_sweep()
    assert found.verdict == "fail"
    assert str(own_lock) in found.detail


@pytest.mark.parametrize(
    ("files", "verdict"),
    [
        ({"proc/sys/net/core/netdev_max_backlog": "1000"}, "ok"),
        ({"proc/self/mountinfo": "23 27 0:22 / /run/lock rw - tmpfs tmpfs rw\n"}, "ok"),
        ({"proc/self/mountinfo": "23 27 0:22 / /run rw - tmpfs tmpfs rw\n"}, "warn"),
    ],
)
def test_a_lock_that_other_containers_do_not_see(own_lock, tmp_path, files, verdict):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(content)
    found = machine_lock(tmp_path)
    assert found.verdict == verdict
    assert found.detail.startswith(str(own_lock))
    assert ("-v /run/lock:/run/lock" in (found.remedy or "")) == (verdict == "warn")


def test_a_machine_without_a_place_for_the_lock(monkeypatch, tmp_path):
    monkeypatch.setattr("slm_energy.machine.LOCK_FOLDERS", (tmp_path / "missing",))
    assert machine_lock().verdict == another_sweep().verdict == "fail"
