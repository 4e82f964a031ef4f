"""An item of the checklist, and where items come from."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple


class Answer(NamedTuple):
    """What a study says about an item.

    Attributes:
        study: what it did or recorded, with figures.
        remedy: what would meet the item, with the key or command; empty where it is met.
    """

    study: str
    remedy: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One thing that reviewers ask for, answered.

    Attributes:
        group: heading that it stands under.
        name: in a few words.
        sources: who asks for it: keys of `SOURCES`.
        answer: of the study.
    """

    group: str
    name: str
    sources: tuple[str, ...]
    answer: Answer

    @property
    def met(self) -> bool:
        """Whether the study meets it."""
        return not self.answer.remedy


class Source(NamedTuple):
    """Who asks for an item.

    Attributes:
        text: author and work, with venue and year where they are certain.
        url: where it can be read; empty where there is no stable address.
    """

    text: str
    url: str = ""


def _arxiv(text: str, number: str) -> Source:
    return Source(f"{text}, arXiv {number}", f"https://arxiv.org/abs/{number}")


SOURCES = {
    "Cruz": Source(
        "L. Cruz, scientific guide to energy experiments, 2021",
        "https://luiscruz.github.io/2021/10/10/scientific-guide.html",
    ),
    "Green Lab": _arxiv("Green Lab", "2407.05689"),
    "Ardito": Source("Ardito et al., Scientific Programming, 2019, article 5284645"),
    "MLPerf Power": _arxiv("MLPerf Power", "2410.12032"),
    "MLPerf rules": Source("MLCommons, inference_policies: power rules"),
    "MLPerf training": Source("MLCommons, training_policies: power_measurement.adoc"),
    "ML.ENERGY": _arxiv("ML.ENERGY benchmark", "2505.06371"),
    "GMT": Source("Green Metrics Tool: phases, control workload, checks of the machine"),
    "AI Energy Score": Source("AI Energy Score: fixed data, fixed hardware"),
    "EEHPC": Source("Energy Efficient HPC Working Group"),
    "Full stack": _arxiv("Google, energy of serving over the full stack", "2508.15734"),
    "LLM guidelines": _arxiv("Guidelines for LLM studies in software engineering", "2508.15503"),
    "Durán": Source(
        "Durán, Martinez, Lago, Martínez-Fernández, J. Syst. Softw. 230:112574, 2025 (arXiv"
        " 2412.15441); its protocol and package, where these items were open",
        "https://arxiv.org/abs/2412.15441",
    ),
    "Quantised": _arxiv("18 LLM families, full precision against quantised", "2412.00329"),
    "Engines": _arxiv("The engine alone moves benchmark scores", "2605.19537"),
    "Per goal": _arxiv("Energy per successful goal", "2605.22883"),
    "ACM": Source("ACM artifact review and badging, version 1.1"),
    "BoAmps": Source("BoAmps, Boavizta", "https://github.com/Boavizta/BoAmps/tree/main/model"),
    "SCI": Source("Software Carbon Intensity specification"),
}
"""Name in tables to source."""
