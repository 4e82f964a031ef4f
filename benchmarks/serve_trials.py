"""Serve tiny trials one after the other, in whatever environment this runs in.

    python benchmarks/serve_trials.py TRIALS.json

Prints one JSON line per trial: the token ids of three prompts served alone and in one padded batch,
or the reason why there are none. Needs what a worker needs, nothing else.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from slm_energy.cell import Trial
from slm_energy.engines.base import Batch, Compiles, find, load_request_of
from slm_energy.errors import SlmEnergyError, one_line
from slm_energy.serialization import from_plain

PROMPTS = (tuple(range(5, 14)), tuple(range(40, 24, -1)), (100, 7, 300, 12))
NEW_TOKENS = 24


def main() -> None:
    """Serve what the file names."""
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for data in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        lines.write(json.dumps(served(from_plain(Trial, data))) + "\n")


def served(trial: Trial) -> dict[str, Any]:
    """Token ids alone and together, or a reason."""
    spec, target = find(trial.cell.settings.engine.name), load_request_of(trial)
    alone = [Batch(prompts=(p,), new_tokens=NEW_TOKENS, stop="fixed") for p in PROMPTS]
    together = Batch(prompts=PROMPTS, new_tokens=NEW_TOKENS, stop="fixed")
    try:
        if not spec.prepares_in_sweep(target.settings) and spec.needs_preparation(target):
            spec.prepare(target)
        engine = spec.create()
        engine.load(target)
        if isinstance(engine, Compiles):
            engine.compile([*alone, together])
        one = [list(engine.generate(batch)[0].output_ids) for batch in alone]
        all_three = [list(answer.output_ids) for answer in engine.generate(together)]
        engine.close()
    except SlmEnergyError as error:
        return {"reason": str(error)}
    except Exception as error:
        return {"reason": f"{type(error).__name__}: {one_line(error)}", "raw": True}
    return {"alone": one, "together": all_three}


if __name__ == "__main__":
    main()
