"""Loads of known kind for a calibration: processes that keep processors, or a GPU, busy."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator

from slm_energy import redaction
from slm_energy.errors import MeterError

PROCESSORS = "processors"

# A process ends by itself when its parent has died. It yields to the sampler.
_PROCESSOR = """
import os, sys
import numpy
parent = int(sys.argv[1])
os.nice(5)
a = numpy.random.rand(256, 256)
b, c = numpy.random.rand(2, 2_000_000)
while os.getppid() == parent:
    for _ in range(10):
        a = a @ a
        a /= a.max()
    b[:] = c  # 16 MB: memory works too
"""
_GPU = """
import os, random, sys, time
import torch
parent, level = int(sys.argv[1]), float(sys.argv[2])
a = torch.rand(4096, 4096, device="cuda")
while os.getppid() == parent:
    began = time.monotonic()
    # Random lengths: a sensor that samples a part of the time must not see one phase only.
    busy = level * random.uniform(0.01, 0.03)
    while time.monotonic() - began < busy:
        a = a @ a
        a /= a.max()
        torch.cuda.synchronize()
    time.sleep((time.monotonic() - began) * (1 - level) / level)
"""
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"), "1"
)
_END_S = 10.0


@contextlib.contextmanager
def running(load: str, level: float) -> Iterator[None]:
    """Keep something busy while the context is entered.

    Args:
        load: `idle`, `processors`, or the UUID of an NVIDIA GPU.
        level: share of the processors that this process may use, at least one of them; or share of
            the time in which the GPU computes.

    Raises:
        MeterError: a process of the load ended by itself.
    """
    if load == "idle":
        yield
        return
    variables = redaction.inherited() | _ONE_THREAD
    code, count = _PROCESSOR, max(1, round(level * len(os.sched_getaffinity(0))))
    if load != PROCESSORS:
        variables, code, count = variables | {"CUDA_VISIBLE_DEVICES": load}, _GPU, 1
    words = [sys.executable, "-P", "-c", code, str(os.getpid()), str(level)]
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(_process(words, variables)) for _ in range(count)]
        yield
        if any(process.poll() is not None for process in processes):
            raise MeterError(f"a process that keeps {load} busy has ended: see the lines above")


def gpus_can_be_loaded() -> bool:
    """Whether this Python has a torch with CUDA that finds a GPU."""
    if importlib.util.find_spec("torch") is None:
        return False
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0


@contextlib.contextmanager
def _process(words: list[str], variables: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(words, env=variables)
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=_END_S)
