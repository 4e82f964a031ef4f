"""Our client alone, as a process of its own: one load against a server, percentiles as JSON.

python own_load.py URL RATE REQUESTS NEW_TOKENS PROMPT ...
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slm_energy.cell import settings
from slm_energy.config.check import run_config
from slm_energy.config.compose import compose
from slm_energy.config.groups import BUNDLED, ModelConfig
from slm_energy.engines.base import Batch, LoadRequest
from slm_energy.engines.openai.engine import OpenAiServer
from slm_energy.models import source
from slm_energy.models.folder import eos_ids
from slm_energy.models.tokenizer import load_tokenizer
from slm_energy.worker.loading import Loading
from slm_energy.worker.timeline import Timeline

PERCENTILES = (50, 95, 99)


def main(arguments: Sequence[str]) -> None:
    """Send the load and print what it met, in seconds."""
    url, rate, requests, new_tokens, *prompts = arguments
    overrides = (
        "engine=openai_server",
        f"engine.options.url={url}",
        "measurement=off",
        "load=open",
        "load.arrivals=constant",
        f"load.rate={rate}",
        "load.ramp_s=0",
    )
    levels = settings(run_config(compose("config", overrides)))
    with tempfile.TemporaryDirectory() as cache:
        folder = source.fetch(ModelConfig(name="bundled", source=BUNDLED), Path(cache))
        target = LoadRequest(
            settings=levels,
            model_path=folder,
            model_digest="",
            cache_path=Path(cache),
            versions={},
            eos_ids=eos_ids(folder),
        )
        engine = OpenAiServer()
        engine.load(target)
        encode = load_tokenizer(folder).encode
        batches = [
            Batch(prompts=(tuple(encode(text).ids),), new_tokens=int(new_tokens), stop="fixed")
            for text in prompts
        ]
        engine.compile(batches)
    loading = Loading(levels.load, batches, engine, 1, lambda phase, share: None)
    length_s = int(requests) / float(rate) + 0.5  # more than the last request needs to be due
    report = asyncio.run(loading.run(Timeline(None).window, length_s))
    done = [each for each in loading.requests if each.ended == "complete"][: int(requests)]
    values = {
        "ttft": [(each.token_ns[0] - each.due_ns) / 1e9 for each in done],
        "e2e": [(each.token_ns[-1] - each.due_ns) / 1e9 for each in done],
        "itl": [
            (each.token_ns[-1] - each.token_ns[0]) / 1e9 / (len(each.token_ns) - 1) for each in done
        ],
    }
    told = {
        name: {p: float(np.percentile(value, p)) for p in PERCENTILES}
        for name, value in values.items()
    }
    print(json.dumps({"requests": len(done), "reasons": report.reasons, **told}))


if __name__ == "__main__":
    main(sys.argv[1:])
