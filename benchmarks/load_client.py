#!/usr/bin/env python3
"""Our client of a load beside guidellm's, in turns, against the scripted server.

    python benchmarks/load_client.py [--turns 3] [--peer PYTHON]

The server's service times are known. Two loads of constant arrivals, the same for both clients:

    light    every request is served at once: all have the same latencies
    queue    more requests than the server's slots can serve: the queue grows, and latencies spread

Compared are percentiles of TTFT, E2E and ITL over the same requests. guidellm's ITL is a request's
mean, as our TPOT. Ours count from when a request was due, guidellm's from when it was sent. The
client's processor time per request comes from two lengths of the light load at a higher rate: the
difference of the processes' processor times, all children included, over that of the requests, so
that starting, tokenizers and reports are not in it.

Without --peer guidellm is installed into an environment of its own in a temporary folder (minutes).
Exits with 1 if a median ratio of percentiles is off by more than 2 %, or ours takes more than half
of the processor time.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from slm_energy.engines.openai.command import free_port

OWN = Path(__file__).parent / "peers" / "own_load.py"
MODEL = Path(__file__).parents[1] / "slm_energy" / "bundled" / "model"
PINNED = "guidellm==0.8.1"
NEW_TOKENS = 32
PROMPTS = ("def add(a, b):\n    return a +", "def area(width, height):\n    return width *")
SERVICE = ("--prefill-s", "0.2", "--token-s", "0.02")
TIMES = {"ttft": "TTFT", "itl": "ITL", "e2e": "E2E"}
PERCENTILES = ("50", "95", "99")
WITHIN, CPU_AT_MOST = 0.02, 0.5


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What one client says of one load.

    Attributes:
        latencies: seconds by time and percentile.
        cpu_s: processor time of its processes.
    """

    latencies: dict[str, dict[str, float]]
    cpu_s: float


@contextlib.contextmanager
def server(*words: str) -> Iterator[str]:
    """The URL of a running scripted server."""
    port = free_port()
    command = [sys.executable, "-m", "slm_energy.testing.completions", "--port", str(port)]
    process = subprocess.Popen([*command, "--model", str(MODEL), *SERVICE, *words])
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/v1/models"):
                break
            time.sleep(0.05)
        yield url
    finally:
        process.kill()
        process.wait()


def timed(command: Sequence[str], folder: Path) -> tuple[str, float]:
    """The output of a command, and the processor time of its processes."""
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise SystemExit(f"{command[0]} ended with {process.returncode}: {err.read()[-2000:]}")
        return out.read(), usage.ru_utime + usage.ru_stime


def ours(url: str, rate: float, requests: int, folder: Path) -> Run:
    """Our client's run."""
    words = (url, str(rate), str(requests), str(NEW_TOKENS), *PROMPTS)
    output, cpu_s = timed((sys.executable, str(OWN), *words), folder)
    found = json.loads(output)
    if found.pop("requests") != requests or found["reasons"]:
        raise SystemExit(f"our client: not all of {requests} requests: {found['reasons']}")
    return Run(latencies={name: found[name] for name in TIMES}, cpu_s=cpu_s)


def theirs(peer: str, url: str, rate: float, requests: int, folder: Path) -> Run:
    """The run of guidellm."""
    data, report = folder / "prompts.jsonl", folder / "guidellm.json"
    rows = [
        {"prompt": PROMPTS[number % len(PROMPTS)], "output_tokens_count": NEW_TOKENS}
        for number in range(2 * requests)
    ]
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    backend = f"kind=openai_http,target={url},model=scripted,request_format=/v1/completions"
    command = (
        *(peer, "-m", "guidellm", "run", "--disable-console"),
        *("--backend", f"{backend},validate_backend=false"),
        *("--profile", f"kind=constant,rate={rate}"),
        *("--constraint", f"kind=max_requests,count={requests}"),
        *("--data", f"kind=json_file,path={data}"),
        *("--output", f"kind=json,path={report}"),
    )
    _, cpu_s = timed(command, folder)
    [benchmark] = json.loads(report.read_text())["benchmarks"]
    answered = {name: len(each) for name, each in benchmark["requests"].items() if each}
    if answered["successful"] < 0.98 * requests:
        raise SystemExit(f"guidellm: of {requests} requests: {answered}")

    def of(name: str, scale: float) -> dict[str, float]:
        found: dict[str, Any] = benchmark["metrics"][name]["successful"]["percentiles"]
        return {p: found[f"p{p}"] / scale for p in PERCENTILES}

    latencies = {
        "ttft": of("time_to_first_token_ms", 1000),
        "itl": of("inter_token_latency_ms", 1000),
        "e2e": of("request_latency", 1),
    }
    return Run(latencies=latencies, cpu_s=cpu_s)


def installed(folder: Path) -> str:
    """The interpreter of a new environment with guidellm."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", PINNED], check=True)
    return python


def compared(peer: str, turns: int, folder: Path) -> bool:
    """Run both, print the table, and return whether they agree."""
    loads = {"light": ((), 10.0, 100), "queue": (("--slots", "8"), 13.0, 200)}
    few, many, fast = 60, 360, 20.0
    runs: dict[str, tuple[list[Run], list[Run]]] = {name: ([], []) for name in loads}
    own_ms, peer_ms = list[float](), list[float]()
    for turn in range(turns):
        for name, (words, rate, requests) in loads.items():
            with server(*words) as url:
                runs[name][0].append(ours(url, rate, requests, folder))
                runs[name][1].append(theirs(peer, url, rate, requests, folder))
        with server() as url:
            own = [ours(url, fast, count, folder).cpu_s for count in (few, many)]
            other = [theirs(peer, url, fast, count, folder).cpu_s for count in (few, many)]
        own_ms.append(1000 * (own[1] - own[0]) / (many - few))
        peer_ms.append(1000 * (other[1] - other[0]) / (many - few))
        print(f"turn {turn + 1} of {turns}: processor time {own_ms[-1]:.2f}, {peer_ms[-1]:.2f} ms")
    agree = True
    print(f"{'load':6} {'time':5} {'':4} {'ours, s':>9} {'guidellm':>9} {'ratio':>7}")
    for name, pairs in runs.items():
        for time_, title in TIMES.items():
            for p in PERCENTILES:
                a, b = ([run.latencies[time_][p] for run in each] for each in pairs)
                ratio = median(x / y for x, y in zip(a, b, strict=True))
                agree &= abs(ratio - 1) <= WITHIN
                print(f"{name:6} {title:5} p{p:3} {median(a):9.4f} {median(b):9.4f} {ratio:7.4f}")
    share = median(x / y for x, y in zip(own_ms, peer_ms, strict=True))
    print(
        f"processor time per request of {NEW_TOKENS} tokens, {fast:g} requests/s: ours"
        f" {median(own_ms):.2f} ms, guidellm {median(peer_ms):.2f} ms, ratio {share:.2f}"
        f" (at most {CPU_AT_MOST})"
    )
    return agree and share <= CPU_AT_MOST


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--peer", help=f"the Python of an environment with {PINNED}")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        peer = args.peer or installed(Path(folder, "peer"))
        sys.exit(not compared(peer, args.turns, Path(folder)))


if __name__ == "__main__":
    main()
