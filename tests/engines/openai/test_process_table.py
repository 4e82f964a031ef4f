import os
import subprocess
import sys
import time

import psutil

from slm_energy.engines.openai import process_table

CHILD = (
    "import subprocess, sys, time\n"
    "file = open(sys.argv[1])\n"
    "subprocess.Popen([sys.executable, '-c', sys.argv[2], sys.argv[1]])\n"
    "print(flush=True)\n"
    "input()"
)
WORK = "import sys, time; file = open(sys.argv[1]); any(iter(lambda: time.process_time() > 0.3, 1))"


def test_a_tree_has_the_time_and_the_files_of_all_its_processes(tmp_path):
    path = tmp_path / "device"
    path.touch()
    stays = WORK + "; time.sleep(60)"
    with psutil.Popen(
        [sys.executable, "-c", CHILD, str(path), stays],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        (child,) = process.children()
        while sum(child.cpu_times()[:2]) < 0.25:
            time.sleep(0.02)
        table = process_table.read()
        tree = process_table.tree([process.pid], table)
        holding = [each.pid for each in tree if str(path) in process_table.open_files(each.pid)]
        child.kill()
        process.communicate(b"\n")
    assert {each.pid for each in tree} == {process.pid, child.pid} == set(holding)
    assert process_table.cpu_s(tree) >= 0.25
    assert list(process_table.ancestors(child.pid, table))[:2] == [process.pid, os.getpid()]


def test_a_process_that_has_ended_has_nothing_open():
    with psutil.Popen(["true"]) as gone:
        pass
    assert process_table.open_files(gone.pid) == set()
    assert gone.pid not in process_table.read()
