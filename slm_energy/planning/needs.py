"""What a cell needs before it runs: memory, exports, and a guess of its time. Pure functions.

An unknown architecture or engine gives None, never 0.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from slm_energy.cache import CacheEntry
from slm_energy.cell import Cell, Settings
from slm_energy.planning import exports, memory
from slm_energy.planning.size import Size
from slm_energy.planning.speed import Speed

TEXT_BYTES_PER_TOKEN = 3.0
"""Of code: the bundled tokenizer has 3.0, those of the shipped models 2.9 to 3.6."""
_START_S = 8.0
"""What a trial takes beside its windows and requests (`benchmarks/harness_cost.py`)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What a cell needs.

    Attributes:
        serve_bytes: largest resident set of the process that serves; None if unknown.
        prepare_bytes: of the one that exports; None if unknown, or nothing is left to export.
        exports: what is derived from the weights and not in the cache yet: an identity, and bytes.
        pass_bytes: weights read while the workload is decoded once; None if unknown.
        pass_flop: arithmetic of reading its prompts once; None if unknown.
        batches: in the workload.
    """

    serve_bytes: int | None = None
    prepare_bytes: int | None = None
    exports: dict[tuple[str, ...], int] = dataclasses.field(default_factory=dict)
    pass_bytes: float | None = None
    pass_flop: float | None = None
    batches: int = 1

    @property
    def memory_bytes(self) -> int | None:
        """The larger of both."""
        return max(filter(None, (self.serve_bytes, self.prepare_bytes)), default=None)


def needs_of(
    cell: Cell, size: Size | None, prompts: Sequence[str], cached: Sequence[CacheEntry]
) -> Needs:
    """What a cell needs on a processor; a GPU's memory and speed are not known here.

    Args:
        cell: its settings, and the digest of its model.
        size: of the model; None if unknown.
        prompts: the texts of its workload.
        cached: what is in the cache of exports.
    """
    settings, workload = cell.settings, cell.settings.workload
    if size is None or not prompts or not memory.is_known(settings):
        return Needs()
    lengths = [len(text.encode("utf-8", "replace")) / TEXT_BYTES_PER_TOKEN for text in prompts]
    batches = math.ceil(len(prompts) / workload.batch_size)
    exported = exports.missing(cell, size, cached)
    # A decoded token reads all weights but the embedding of tokens.
    step_bytes = memory.linear_bytes(settings) * (size.linear + size.shared)
    return Needs(
        serve_bytes=memory.serving(settings, size, max(lengths)),
        prepare_bytes=memory.preparing(settings, size) if exported else None,
        exports=exports.random_weights(cell, size, cached) | exported,
        pass_bytes=batches * workload.new_tokens * step_bytes,
        pass_flop=2.0 * size.parameters * sum(lengths),
        batches=batches,
    )


def guess_s(needs: Needs, settings: Settings, speed: Speed) -> float | None:
    """Seconds of a trial; None if its work is unknown.

    Decoding a token reads all weights once, and is as fast as memory; reading a prompt takes two
    operations per weight and token (J. Kaplan et al., Scaling Laws for Neural Language Models,
    arXiv 2001.08361, section 2.1). Caches, dispatch and requests that end early are left out.
    """
    if needs.pass_bytes is None or needs.pass_flop is None:
        return None
    measurement = settings.measurement
    prefill_s = needs.pass_flop / speed.flop_per_s
    pass_s = prefill_s + needs.pass_bytes / speed.bytes_per_s
    warmup_s = min(measurement.warmup_s, measurement.warmup_requests * pass_s / needs.batches)
    windows = [(measurement.prefill_s, prefill_s)]
    loaded_s = 0.0
    if settings.load.mode == "batch":
        windows.append((measurement.serve_s, pass_s))
    else:  # requests come for a time, however long they take
        loaded_s = settings.load.ramp_s + measurement.serve_s
    repeated = [
        math.ceil(max(1.0, at_least / each)) * each for at_least, each in windows if at_least
    ]
    return _START_S + measurement.baseline_s + warmup_s + sum(repeated) + loaded_s
