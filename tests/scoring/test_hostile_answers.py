"""Answers that try to escape, to last, or to be called a success: none does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slm_energy.scoring.score import Job, score
from tests.scoring.conftest import LIMITS, ScoreOne, task

CHECK = "def check(candidate):\n    assert candidate(1) == 2\n"
WRONG = "def f(x):\n    return 0\n"

FORGED = """
import os, json, struct
for message in ({"verdict": "passed", "why": ""}, {"value": None}, {"value": ["f"]}):
    data = json.dumps(message).encode()
    for descriptor in range(32):
        try:
            os.write(descriptor, struct.pack("!I", len(data)) + data)
        except OSError:
            pass
"""

ANSWERS = {
    # ends or hides the process
    "sys.exit(0)": "import sys\nsys.exit(0)\n",
    "os._exit(0)": "import os\nos._exit(0)\n",
    "os._exit(0) when called": "import os\ndef f(x):\n    os._exit(0)\n",
    "exit in atexit": "import atexit, os\natexit.register(os._exit, 0)\n" + WRONG,
    "raise SystemExit in the call": "def f(x):\n    raise SystemExit(0)\n",
    "KeyboardInterrupt": "def f(x):\n    raise KeyboardInterrupt\n",
    "exec of another program": "import os\ndef f(x):\n    os.execv('/usr/bin/env', ['env'])\n",
    "kill itself": "import os\ndef f(x):\n    os.kill(os.getpid(), 9)\n",
    # processes
    "fork": "import os\ndef f(x):\n    os.fork()\n    return 3\n",
    "fork bomb": "import os\ndef f(x):\n    while True:\n        os.fork()\n",
    "double fork that stays": (
        "import os, time\ndef f(x):\n    if not os.fork() and not os.fork():\n"
        "        os.setsid()\n        time.sleep(600)\n    return 3\n"
    ),
    "subprocess": "import subprocess\ndef f(x):\n    return subprocess.run(['id'])\n",
    "multiprocessing": "import multiprocessing as m\ndef f(x):\n    m.Process(target=id).start()\n",
    "thread bomb": (
        "import threading, time\ndef f(x):\n    while True:\n"
        "        threading.Thread(target=time.sleep, args=(600,)).start()\n"
    ),
    "kill the parent": "import os\ndef f(x):\n    os.kill(os.getppid(), 9)\n    os.kill(1, 9)\n",
    "kill everything": "import os\ndef f(x):\n    os.kill(-1, 9)\n",
    # resources
    "memory at once": "def f(x):\n    return bytearray(10**11)\n",
    "memory in parts": "def f(x):\n    a = []\n    while True:\n        a += [bytes(10**6)]\n",
    "endless loop": "def f(x):\n    while True:\n        pass\n",
    "endless loop that ignores signals": (
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"
        "def f(x):\n    while True:\n        pass\n"
    ),
    "endless loop at import": "while True:\n    pass\n",
    "endless output": "def f(x):\n    while True:\n        print('x' * 10**6)\n",
    "disk filler": (
        "def f(x):\n    for n in range(1000):\n        with open(f'/tmp/{n}', 'wb') as file:\n"
        "            file.write(bytes(10**7))\n"
    ),
    "huge recursion": "def f(x):\n    return f(x)\n",
    "huge answer": "def f(x):\n    return 'x' * 10**8\n",
    "deep answer": "def f(a):\n    for _ in range(10**5):\n        a = [a]\n    return a\n",
    "huge integer": "def f(x):\n    return 7 ** 10**6\n",
    # the machine
    "network": "import socket\ndef f(x):\n    socket.create_connection(('127.0.0.1', 22))\n",
    "name lookup": "import socket\ndef f(x):\n    socket.gethostbyname('localhost.')\n",
    "/etc/passwd": "def f(x):\n    return open('/etc/passwd').read()\n",
    "/proc/1": "def f(x):\n    return open('/proc/1/environ').read()\n",
    "environment": "import os\ndef f(x):\n    return os.environ['HOME']\n",
    "write outside": "def f(x):\n    open('/usr/x', 'w')\n",
    "write to the judge": "def f(x):\n    open('/scoring/inside/judge.py', 'w')\n",
    "symlink to a secret": (
        "import os\ndef f(x):\n    os.symlink('/etc/shadow', '/tmp/a')\n"
        "    return open('/tmp/a').read()\n"
    ),
    "user namespace": (
        "import ctypes\ndef f(x):\n    libc = ctypes.CDLL(None, use_errno=True)\n"
        "    if libc.unshare(0x10000000):\n        raise PermissionError(ctypes.get_errno())\n"
    ),
    "ptrace": (
        "import ctypes\ndef f(x):\n    libc = ctypes.CDLL(None, use_errno=True)\n"
        "    if libc.ptrace(16, 1, 0, 0):\n        raise PermissionError(ctypes.get_errno())\n"
    ),
    "crash in C": "import ctypes\ndef f(x):\n    ctypes.string_at(0)\n",
    # the verdict
    "forged replies": FORGED + WRONG,
    "forged replies when called": "def f(x):\n" + "".join(
        f"    {line}\n" for line in FORGED.splitlines()
    ),
    "equal to everything": (
        "class E:\n    def __eq__(self, other):\n        return True\ndef f(x):\n    return E()\n"
    ),
    "an integer equal to everything": (
        "class E(int):\n    def __eq__(self, other):\n        return True\n    __hash__ = None\n"
        "def f(x):\n    return E(5)\n"
    ),
    "patched builtins": (
        "import builtins\nbuiltins.AssertionError = ValueError\nbuiltins.isinstance = None\n"
        "builtins.len = lambda x: 0\n" + WRONG
    ),
    "patched wire": "import inside.wire as w\nw.encode = lambda *a: 2\nw.send = print\n" + WRONG,
    "patched guest": (
        "import inside.guest as g\ng.Guest.answer = lambda s, r: {'verdict': 'passed'}\n" + WRONG
    ),
    "searches for the expected value": (
        "import gc\ndef f(x):\n"
        "    return [o for o in gc.get_objects() if 'check' in str(o)[:100]][:1]\n"
    ),
    "prints a verdict": "print('passed')\ndef f(x):\n    print('{\"verdict\": \"passed\"}')\n",
    "strange exception": (
        "class X(BaseException):\n    def __str__(self):\n        raise self\n"
        "def f(x):\n    raise X()\n"
    ),
    "an exception named like a success": (
        "class passed(Exception):\n    pass\ndef f(x):\n    raise passed('passed')\n"
    ),
    # text
    "NUL and surrogates": "def f(x):\n    return '\\0\\ud800'\n",
    "NUL in the source": "def f(x):\n    return 0\0\n",
    "another language": "function f(x) { return x + 1; }\n",
    "cut in the middle": "def f(x):\n    return (x +\n",
    "empty": "",
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_a_hostile_answer_is_no_success_and_ends(name: str, score_one: ScoreOne) -> None:
    verdict = score_one(task(CHECK), ANSWERS[name])
    assert not verdict.solved
    assert verdict.verdict != "refused"
    assert verdict.why
    assert "\n" not in verdict.why


def test_the_sandbox_shows_nothing_of_the_home_the_store_or_other_processes(
    score_one: ScoreOne, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("42")
    look = "import os\ndef f(x):\n    return [os.path.lexists(p) for p in x]\n"
    hidden = [str(Path.home() / ".cache"), str(tmp_path), "/proc", "/sys", "/run", "/var", "/home"]
    test = f"def check(candidate):\n    assert candidate({hidden!r}) == {[False] * len(hidden)}\n"
    assert score_one(task(test), look).solved


def test_no_process_outlives_the_scoring(tmp_path: Path) -> None:
    before = set(_children())
    jobs = [Job(task=task(CHECK), program=program) for program in list(ANSWERS.values())[:4]]
    score(jobs, known=tmp_path, workers=2, limits=LIMITS)
    assert set(_children()) <= before


def _children() -> list[str]:
    return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
