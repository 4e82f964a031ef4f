"""Answers that try to escape, to last, or to be called a success: none does."""

from __future__ import annotations

import dataclasses
import os
import platform
from pathlib import Path

import pytest

from slm_energy.record import TaskScore
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
    "an exit code like that of a signal": "import os\ndef f(x):\n    os._exit(255)\n",
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
    **{
        f"a reply that is {name}": (
            f"import os\nDATA = {data!r}\nfor n in range(3, 16):\n    try:\n"
            "        os.write(n, len(DATA).to_bytes(4, 'big') + DATA)\n"
            "    except OSError:\n        pass\n" + WRONG
        )
        for name, data in {
            "no JSON": b"\xff",
            "no object": b"[2]",
            "nested too deeply": b"[" * 10**6,
            "no form": b'{"value": []}',
            "a list as a key": b'{"value": ["dict", [[["list", []], 1]]]}',
            "an error without a text": b'{"error": 3}',
        }.items()
    },
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
    "equal by name": (
        "class M(type):\n    def __instancecheck__(c, o):\n        return True\n"
        "class E(metaclass=M):\n    __class__ = int\n    def __int__(self):\n        return 2\n"
        "def f(x):\n    return E()\n"
    ),
    "an integer that lies when it is converted": (
        "class E(int):\n    def __int__(self):\n        return 2\n    __index__ = __int__\n"
        "def f(x):\n    return E(5)\n"
    ),
    "a float that is no number": "def f(x):\n    return float('nan')\n",
    "memory that numpy would read": (
        "class A:\n    __array_interface__ = {\n        'data': (8, False), 'shape': (1,),"
        " 'typestr': '<i8', 'version': 3}\ndef f(x):\n    return A()\n"
    ),
    "patched modules": (
        "import sys, operator, math\noperator.eq = lambda a, b: True\nsys.modules['math'] = None\n"
        "sys.modules['builtins'].__import__ = None\n" + WRONG
    ),
    "frames of the caller": (
        "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame.f_back:\n"
        "        frame = frame.f_back\n    return [*map(str, frame.f_locals)]\n"
    ),
    "settrace": (
        "import sys\ndef trace(frame, event, arg):\n    frame.f_locals['value'] = 2\n"
        "    return trace\nsys.settrace(trace)\n" + WRONG
    ),
    "pickle": (
        "import os, pickle\nclass P:\n    def __reduce__(self):\n        return os._exit, (0,)\n"
        "def f(x):\n    return pickle.dumps(P())\n"
    ),
    "stdin": "import sys\ndef f(x):\n    return input() or sys.stdin.read()\n",
    "descriptors to the judge": (
        "import socket\ndef f(x):\n    for n in range(16):\n        try:\n"
        "            with socket.socket(fileno=n) as s:\n                s.family\n"
        "                socket.send_fds(s, [b'x'], [0, 1, 2])\n"
        "        except OSError:\n            pass\n"
    ),
    "closes every descriptor": "import os\ndef f(x):\n    os.closerange(0, 64)\n",
    # processes and the kernel
    "signals by the owner of a file": (
        "import fcntl, os, socket\ndef f(x):\n    a, b = socket.socketpair()\n"
        "    fcntl.fcntl(a, fcntl.F_SETOWN, os.getppid())\n"
        "    fcntl.fcntl(a, fcntl.F_SETSIG, 9)\n"
        "    fcntl.fcntl(a, fcntl.F_SETFL, os.O_ASYNC)\n    b.send(b'x')\n"
    ),
    "stops itself": "import signal\ndef f(x):\n    signal.raise_signal(signal.SIGSTOP)\n",
    "a signal of a timer": (
        "import signal\ndef f(x):\n    signal.setitimer(signal.ITIMER_VIRTUAL, 0.01)\n"
        "    while True:\n        pass\n"
    ),
    "alarm": "import signal\ndef f(x):\n    signal.alarm(1)\n    signal.pause()\n",
    "sleeps": "import time\ndef f(x):\n    time.sleep(600)\n",
    "threads that stay": (
        "import threading, time\ndef f(x):\n    for _ in range(20):\n"
        "        threading.Thread(target=time.sleep, args=(600,)).start()\n"
    ),
    "descriptors": "import os\ndef f(x):\n    while True:\n        os.dup(0)\n",
    "files in memory": (
        "import os\ndef f(x):\n    while True:\n"
        "        os.write(os.memfd_create('a'), bytes(5 * 10**7))\n"
    ),
    "shared memory": "def f(x):\n    open('/dev/shm/x', 'w')\n",
    "deep folders": (
        "import os\ndef f(x):\n    while True:\n        os.mkdir('d')\n        os.chdir('d')\n"
    ),
    "abstract socket": (
        "import socket\ndef f(x):\n    socket.socket(socket.AF_UNIX).bind('\\0x')\n"
    ),
    "the host of a virtual machine": (
        "import socket\ndef f(x):\n    socket.socket(40, socket.SOCK_STREAM).connect((2, 22))\n"
    ),
    **{
        f"system call {name}": (
            "import ctypes, os\ndef f(x):\n    libc = ctypes.CDLL(None, use_errno=True)\n"
            f"    if libc.syscall({arguments}) < 0:\n"
            "        raise OSError(ctypes.get_errno(), '')\n    return 2\n"
        )
        for name, arguments in {
            "io_uring_setup": "425, 1, ctypes.create_string_buffer(200)",
            "userfaultfd": "323, 1",
            "add_key": "248, b'user', b'x', b'y', 1, -3",
            "keyctl": "250, 0, -3, 0",
            "process_vm_readv": "310, os.getppid(), 0, 0, 0, 0, 0",
            "kcmp": "312, os.getppid(), os.getpid(), 0, 0, 0",
            "pidfd_open": "434, os.getppid(), 0",
            "syslog": "103, 10, 0, 0",
            "mount": "165, b'none', b'/tmp', b'tmpfs', 0, 0",
            "bpf": "321, 0, 0, 0",
            "perf_event_open": "298, 0, 0, -1, -1, 0",
        }.items()
        if platform.machine() == "x86_64"
    },
    # values
    "a generator without end": "def f(x):\n    while True:\n        yield 2\n",
    "a list in itself": "def f(x):\n    a = []\n    a.append(a)\n    return a\n",
    "hashes that collide": "def f(x):\n    return {n * (2**61 - 1) for n in range(10**5)}\n",
    "a number that is too large": (
        "from decimal import Decimal\ndef f(x):\n    return Decimal('1e999999999')\n"
    ),
    # text
    "NUL and surrogates": "def f(x):\n    return '\\0\\ud800'\n",
    "NUL in the source": "def f(x):\n    return 0\0\n",
    "another language": "function f(x) { return x + 1; }\n",
    "cut in the middle": "def f(x):\n    return (x +\n",
    "empty": "",
}  # fmt: skip


EXPECTS = (
    "def check(candidate):\n    try:\n        candidate(1)\n"
    "    except {}:\n        return\n    assert False\n"
)
AGAINST_A_TEST = {
    "ends where Exception is expected": (
        EXPECTS.format("Exception"), "import os\ndef f(x):\n    os._exit(0)\n",
    ),
    "ends where anything is expected": (
        EXPECTS.format("BaseException"), "import os\ndef f(x):\n    os._exit(0)\n",
    ),
    "SystemExit where Exception is expected": (
        EXPECTS.format("Exception"), "def f(x):\n    raise SystemExit\n",
    ),
    "a value too large to read where Exception is expected": (
        EXPECTS.format("Exception"), "def f(x):\n    return [[]] * 10**6\n",
    ),
    "StopIteration that ends the loop of the test": (
        "def check(candidate):\n    assert all(map(lambda n: candidate(n) == n + 1, [1, 2]))\n",
        "def f(x):\n    raise StopIteration\n",
    ),
    "a module of the prompt, replaced": (
        "def check(candidate):\n    assert math.fabs(candidate(1) - 2) < 1e-6\n",
        "import math\nclass math:\n    fabs = abs = lambda x: 0\ndef f(x):\n    return 9\n",
    ),
    "a function of the prompt, replaced": (
        "def check(candidate):\n    assert helper(candidate(1)) == 3\n",
        "def f(x):\n    global helper\n    helper = lambda x: 3\n    return 9\n",
    ),
    "objects that are equal to all others": (
        "def check(candidate):\n    assert candidate(1) == candidate(1)\n",
        "class E:\n    def __eq__(self, other):\n        return True\ndef f(x):\n    return E()\n",
    ),
    "a value that the next call cannot take": (
        "def check(candidate):\n    assert candidate(candidate(1)) == 2\n",
        "def f(x):\n    return [1] * 10**7 if x == 1 else 2\n",
    ),
}  # fmt: skip
PROMPT = "import math\ndef helper(x):\n    return x + 1\n\ndef f(x):\n"
"""What some of these tests use beside the function that is asked for."""

VANDALS = {
    "limits of the parent": (
        "import os, resource\ndef f(x):\n"
        "    resource.prlimit(os.getppid(), resource.RLIMIT_AS, (10**8, 10**8))\n"
    ),
    "priority of the parent": (
        "import os\ndef f(x):\n    os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)\n"
    ),
    "class of the parent": (
        "import os\ndef f(x):\n"
        "    os.sched_setscheduler(os.getppid(), os.SCHED_IDLE, os.sched_param(0))\n"
    ),
    "processors of the parent": (
        "import os\ndef f(x):\n    os.sched_setaffinity(os.getppid(), {0})\n"
    ),
    "mode of the folder": "import os\ndef f(x):\n    os.chmod('/tmp', 0)\n",
    "a folder that cannot be read": (
        "import os\ndef f(x):\n    os.makedirs('/tmp/a/b')\n    os.chmod('/tmp/a', 0)\n"
    ),
    "a module in the folder": "def f(x):\n    open('/tmp/random.py', 'w').write('1 / 0')\n",
    "a full folder": "def f(x):\n    open('/tmp/a', 'wb').write(bytes(10**7))\n",
    "patched library": "import random, json\nrandom.random = json.dumps = None\n" + WRONG,
}
INNOCENT = (
    "import os, random\ndef f(x):\n    assert os.listdir('/tmp') == [] and random.random() < 1\n"
    "    with open('/tmp/own', 'wb') as file:\n        file.write(bytes(6 * 10**7))\n"
    "    return x + 1\n"
)


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TaskScore]:
    """Of all answers, tested as a study's are: many in one sandbox, two at a time."""
    jobs = {name: Job(task=task(CHECK), program=program) for name, program in ANSWERS.items()}
    jobs |= {
        name: Job(task=task(test, PROMPT), program=PROMPT[: -len("def f(x):\n")] + program)
        for name, (test, program) in AGAINST_A_TEST.items()
    }
    known = tmp_path_factory.mktemp("known")
    results = score([*jobs.values()], known=known, workers=2, limits=LIMITS)
    return dict(zip(jobs, results, strict=True))


@pytest.mark.parametrize("name", [*ANSWERS, *AGAINST_A_TEST])
def test_a_hostile_answer_is_no_success_and_ends(name: str, scores: dict[str, TaskScore]) -> None:
    verdict = scores[name]
    assert not verdict.solved
    assert verdict.verdict != "refused" or name == "objects that are equal to all others"
    assert verdict.why
    assert verdict.why.isprintable()


def test_no_answer_does_harm_to_the_one_after_it(tmp_path: Path) -> None:
    jobs = list[Job]()
    for name, program in VANDALS.items():
        jobs.append(Job(task=task(CHECK), program=program))
        jobs.append(Job(task=task(CHECK), program=f"{INNOCENT}# after {name}\n"))
    verdicts = score(jobs, known=tmp_path, workers=1, limits=LIMITS)
    assert not any(verdict.solved for verdict in verdicts[::2])
    assert [verdict for verdict in verdicts[1::2] if not verdict.solved] == []


def test_no_answer_can_have_its_task_refused_where_the_canonical_solution_passes(
    tmp_path: Path,
) -> None:
    test = "def check(candidate):\n    assert candidate(1) == candidate(1) and candidate(1) == 2\n"
    one = dataclasses.replace(task(test), canonical_solution="    return x + 1\n")
    program = "class E:\n    pass\ndef f(x):\n    return E()\n"
    (verdict,) = score([Job(task=one, program=program)], known=tmp_path, workers=1, limits=LIMITS)
    assert (verdict.verdict, "may say anything" in verdict.why) == ("exception", True)


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
