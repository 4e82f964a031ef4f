"""What a metric is called in a sentence, its unit on the page, and which direction is good."""

from __future__ import annotations

import dataclasses

MEASURED = "energy/"
ESTIMATED = "energy_estimated/"

_TITLES = {
    "energy/per_output_token_j": "energy per output token",
    "energy/per_request_j": "energy per request",
    "energy/prefill_per_request_j": "prefill energy per request",
    "energy/decode_per_output_token_j": "decoding energy per output token",
    "latency/ttft_p50_s": "TTFT p50",
    "latency/itl_p50_s": "ITL p50",
    "latency/e2e_p50_s": "end-to-end latency p50",
    "latency/e2e_p95_s": "end-to-end latency p95",
    "latency/tpot_mean_s": "mean TPOT",
    "throughput/output_tokens_per_s": "output tokens/s",
    "throughput/requests_per_s": "requests/s",
    "memory/process_peak_mb": "process peak memory",
    "quality/agreement": "agreement with the reference engine",
    "quality/agreeing_tokens": "tokens before the first that is not the reference engine's",
}
# Ending of a name, prefix of its group, unit on the page, factor.
_UNITS = (
    ("", "quality/", "%", 100.0),
    ("per_output_token_j", "", "mJ/token", 1e3),
    ("tokens_per_s", "", "tokens/s", 1.0),
    ("_per_s", "", "1/s", 1.0),
    ("_j", "", "J", 1.0),
    ("_w", "", "W", 1.0),
    ("_s", "latency/", "ms", 1e3),
    ("_s", "", "s", 1.0),
    ("_mb", "", "MB", 1.0),
    ("_pct", "", "%", 1.0),
    ("_c", "", "°C", 1.0),
)
_QUANTITIES = {
    "energy": "energy",
    "time": "time",
    "memory": "memory",
    "thermal": "temperature",
    "utilization": "utilization",
}
_SPELLED = {
    **{word: word.upper() for word in ("cpu", "gpu", "dram", "ttft", "itl", "tpot", "e2e")},
    "psys": "platform",
    "wall": "wall meter",
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One quantity that trials are compared by.

    Attributes:
        name: the MLflow name; `energy/...` is measured and `energy_estimated/...` is a model's.
    """

    name: str

    @property
    def estimated(self) -> bool:
        """True when the joules come from a model, not from a sensor."""
        return self.name.startswith(ESTIMATED)

    @property
    def quantity(self) -> str:
        """The name without the kind: the same for a measured energy and its estimate."""
        return self.name.replace(ESTIMATED, MEASURED, 1)

    @property
    def is_energy(self) -> bool:
        """True for joules of either kind."""
        return self.name.startswith((MEASURED, ESTIMATED))

    @property
    def higher_is_better(self) -> bool:
        """True for throughput and quality; everything else is a cost."""
        return self.name.startswith(("throughput/", "quality/"))

    @property
    def is_share(self) -> bool:
        """True for quality: a share that may be zero, and has no logarithm then."""
        return self.name.startswith("quality/")

    @property
    def title(self) -> str:
        """What a sentence calls it, without the word estimated."""
        if self.quantity in _TITLES:
            return _TITLES[self.quantity]
        group, _, rest = self.quantity.rpartition("/")
        ending = self._shown[0]
        words = " ".join(_SPELLED.get(w, w) for w in rest.removesuffix(ending).split("_") if w)
        return f"{words} {_QUANTITIES[group]}" if group in _QUANTITIES else words

    @property
    def heading(self) -> str:
        """What the head of a table calls it; an estimate says so."""
        title = self.title[:1].upper() + self.title[1:]
        return f"{title} (estimated)" if self.estimated else title

    @property
    def unit(self) -> str:
        """The unit on the page."""
        return self._shown[1]

    @property
    def scale(self) -> float:
        """Stored value times this is the value on the page."""
        return self._shown[2]

    @property
    def _shown(self) -> tuple[str, str, float]:
        """The unit as it ends the name, the unit on the page, and the factor between them."""
        for ending, group, unit, scale in _UNITS:
            if self.name.endswith(ending) and self.name.startswith(group):
                return "_" + ending.rpartition("_")[2], unit, scale
        return "", "", 1.0

    @property
    def bounds(self) -> tuple[str, str]:
        """Names of the metrics that hold the measurement's own interval."""
        stem, _, unit = self.name.rpartition("_")
        return f"{stem}_low_{unit}", f"{stem}_high_{unit}"

    def estimated_twin(self) -> Metric:
        """The same quantity of the estimating model."""
        return Metric(name=self.name.replace(MEASURED, ESTIMATED, 1))
