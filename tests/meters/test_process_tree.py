"""The time and memory of real processes."""

import subprocess
import sys
import time

import psutil
import pytest

from slm_energy.meters.process_tree import ProcessTree

WORK = "import time; any(iter(lambda: time.process_time() > 0.3, True))"
STAYS = WORK + "; time.sleep(60)"
CHILDREN = (
    "import subprocess, sys\n"
    f"subprocess.Popen([sys.executable, '-c', '{STAYS}'])\n"
    f"subprocess.run(['sh', '-c', sys.executable + ' -c \"{WORK}\"; true'])\n"
    "input()\n"
)
"""One child works and stays; another one has a child that works, and both end."""


@pytest.fixture
def started():
    processes = []

    def start(code):
        one = psutil.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        processes.append(one)
        return one

    yield start
    for one in processes:
        if one.is_running():
            for each in [*one.children(recursive=True), one]:
                each.kill()
        one.communicate()


def test_time_of_children_counts_while_they_run_and_after(started):
    """It never falls, not even at the moment when a parent takes over its child's time."""
    worker = started(CHILDREN)
    while len(worker.children(recursive=True)) < 3:
        time.sleep(0.01)
    tree, seen = ProcessTree(worker.pid), [0.0]
    while len(worker.children()) == 2 or seen[-1] < 0.5:
        seen.append(tree.cpu_s())
    assert seen == sorted(seen)


def test_the_same_ticks_are_the_same_time_whichever_process_spent_them(started, monkeypatch):
    """0.1 + 0.2 is not 0.3 in floating point: a rate over the difference would be negative."""
    pids = [started("input()").pid for _ in range(2)]
    tree = ProcessTree(*pids)
    taken_over = {pids[0]: (0.3, 0.0, 0.0, 0.0), pids[1]: (0.0, 0.0, 0.0, 0.0)}
    apart = {pids[0]: (0.1, 0.0, 0.0, 0.0), pids[1]: (0.2, 0.0, 0.0, 0.0)}
    seen = []
    for times in (apart, taken_over):
        monkeypatch.setattr(psutil.Process, "cpu_times", lambda self, of=times: of[self.pid])
        seen.append(tree.cpu_s())
    assert seen == [0.3, 0.3]


def test_a_process_that_starts_later_is_found(started):
    worker = started("import subprocess, sys; input(); subprocess.run(['sleep', '30'])")
    tree = ProcessTree(worker.pid)
    alone = tree.resident_mb()
    worker.stdin.write(b"\n")
    worker.stdin.flush()
    while not worker.children():
        time.sleep(0.01)
    while tree.resident_mb() <= alone:
        time.sleep(0.1)
    assert tree.resident_mb() > alone


def test_a_process_stays_in_the_tree_when_its_parent_ends(started):
    worker = started(
        "import subprocess, sys\n"
        "subprocess.run(['sh', '-c', 'sleep 30 & sleep 1.5'])\n"
        "print(flush=True)\n"
        "input()"
    )
    tree = ProcessTree(worker.pid)
    while len(worker.children(recursive=True)) < 3:
        time.sleep(0.01)
    tree.resident_mb()
    (orphan,) = [one for one in worker.children(recursive=True) if "30" in one.cmdline()]
    worker.stdout.readline()
    alone = worker.memory_info().rss / 1e6
    try:
        assert orphan.is_running()
        assert tree.resident_mb() > alone
    finally:
        orphan.kill()


def test_there_must_be_a_root(started):
    worker = started("")
    worker.wait()
    with pytest.raises(psutil.NoSuchProcess):
        ProcessTree(worker.pid)
