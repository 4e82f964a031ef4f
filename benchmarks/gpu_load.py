"""Loads a GPU by a schedule, with torch alone; `gpu_campaign.py` starts it.

    python gpu_load.py DEVICE

It prints `ready`, reads a line with the schedule, follows it, and prints a line with what it did.
A schedule is [[start_ns, end_ns, level], ...] on the monotonic clock; level is idle, memory or
compute. The answer is the same list with the times at which the first kernel of a phase began and
the last one was done.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import torch

_SIDE = {"cuda": 8192, "cpu": 64}


def main() -> None:
    """Follow the schedule."""
    device = torch.device(sys.argv[1])
    side = _SIDE[device.type]
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    one = torch.rand(side, side, device=device, dtype=kind)
    other, target = torch.rand_like(one), torch.empty_like(one)
    work: dict[str, Callable[[], object]] = {
        "memory": lambda: target.copy_(one),
        "compute": lambda: torch.mm(one, other, out=target),
    }
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for warm in work.values():
        warm()
    wait()
    print("ready", flush=True)
    edges = []
    for start_ns, end_ns, level in json.loads(sys.stdin.readline()):
        time.sleep(max(0, start_ns - time.monotonic_ns()) / 1e9)
        began_ns = time.monotonic_ns()
        if level == "idle":
            time.sleep(max(0, end_ns - time.monotonic_ns()) / 1e9)
        while time.monotonic_ns() < end_ns:
            work[level]()
            wait()
        edges.append([began_ns, time.monotonic_ns(), level])
    print(json.dumps(edges))


if __name__ == "__main__":
    main()
