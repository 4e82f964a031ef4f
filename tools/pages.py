"""What pages of the site are given when they are built: MkDocs calls the functions `on_...`.

A line `{{ NAME }}` of a page is replaced by what the function `PARTS[NAME]` returns. Everything is
computed anew from the code and from the data of the published study in tests/data, so that none of
it can be out of date.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slm_energy import __version__, svg
from slm_energy.analysis import external
from slm_energy.analysis.render import external_tables, figures, interaction, supporting_tables
from slm_energy.analysis.render.markdown import table_lines
from slm_energy.analysis.render.tables import Grid
from slm_energy.cli import exit_codes
from slm_energy.cli.main import VERBS, parsers
from slm_energy.config.compose import compose
from slm_energy.derive.energy.accounting import account
from slm_energy.escape import markdown
from slm_energy.meters.domains import cut
from slm_energy.record import Series, Source, Window
from slm_energy.svg import WIDTH, Picture
from slm_energy.testing.waveform import Waveform

ROOT = Path(__file__).parents[1]
_DATA = ROOT / "tests" / "data"
_S, _MS = 10**9, 10**6


def on_config(config: Any) -> None:
    """Name the version; where mike publishes it, offer the others."""
    config.site_name = f"slm_energy {__version__}"
    if "MIKE_DOCS_VERSION" in os.environ:
        config.extra["version"] = {"provider": "mike"}


def on_page_markdown(text: str, **_: Any) -> str:
    """A page with its parts filled in.

    Raises:
        KeyError: it names a part that does not exist.
    """
    return re.sub(r"^\{\{ (\w+) \}\}$", lambda part: PARTS[part[1]](), text, flags=re.MULTILINE)


def readme() -> str:
    """The README; of its links, those to files that the site does not have become text."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](./")
    return re.sub(r"\[([^]]+)\]\((?!https:|\./)[^)]+\)", r"\1", text)


def verbs() -> str:
    """The help text of every verb up to its keys, which have a page of their own."""
    os.environ["COLUMNS"] = "84"
    _, by_name = parsers()
    parts = []
    for name, verb in VERBS.items():
        verb.configure(by_name[name])
        text, keys, _ = by_name[name].format_help().partition("\nkeys and their defaults:")
        more = "\nKeys and their defaults: [Keys](keys.md).\n" if keys else ""
        parts.append(f"## {name}\n\n```text\n{text.rstrip()}\n```\n{more}")
    return "\n".join(parts)


def codes() -> str:
    """The meaning of each exit code."""
    return f"```text\n{exit_codes.HELP.rstrip()}\n```"


def joules() -> str:
    """A counter that is renewed every 100 ms, and the window whose joules are wanted."""
    period, window = 100 * _MS, Window(name="serve", start_ns=437 * _MS, end_ns=1_471 * _MS)
    power = Waveform(steps=((300 * _MS, 20_000), (500 * _MS, 80_000), (250 * _MS, 45_000)))
    times = [t + d for t in range(0, 2 * _S, period) for d in (-_MS // 2, _MS // 2, period // 2)]
    shown = [power.energy_pj(t // period * period) // 10**9 for t in times]
    source = Source(
        id="counter", kind="counter", domain="gpu", unit="mJ", update_period_ns=period, summed=True
    )
    series = Series(source=source, before_ns=times, raw=shown, after_ns=times)
    figure = account(series, window, max_gap_ns=_S)
    true_j = power.joules(window.start_ns, window.end_ns)
    inside = [raw for t, raw in zip(times, shown, strict=True) if _within(window, t)]
    naive_j = (inside[-1] - inside[0]) / 1000
    words = (
        f"True energy {true_j:.1f} J. Last reading minus first reading in the window:"
        f" {naive_j:.1f} J. Accounted: {figure.joules:.1f} J, {figure.low_j:.1f} to"
        f" {figure.high_j:.1f} J."
    )
    return _figure(_drawn_counter(power, times, shown, window, words), words)


def _within(window: Window, time_ns: int) -> bool:
    return window.start_ns <= time_ns <= window.end_ns


def _drawn_counter(
    power: Waveform, times: Sequence[int], shown: Sequence[int], window: Window, words: str
) -> str:
    height, last = 330.0, 1_800 * _MS
    picture = Picture(WIDTH, height, "A window on a counter", words)
    across = svg.Scale(low=0, high=last, left=0, right=WIDTH)
    watts = svg.Scale(low=0, high=90_000, left=110, right=26)
    joules = svg.Scale(low=0, high=max(shown), left=286, right=150)
    left, right = across(window.start_ns), across(window.end_ns)
    picture.rect(left, 22, right - left, height - 66, "band")
    picture.text(left + 5, 16, "window", "small soft")
    steps = range(0, last, 2 * _MS)
    picture.path([(across(t), watts(power.power_mw(t))) for t in steps], "front")
    picture.path([(across(t), joules(power.energy_pj(t) / 1e9)) for t in steps], "front")
    seen = [(t, raw) for t, raw in zip(times, shown, strict=True) if 0 <= t <= last]
    picture.path([(across(t), joules(raw)) for t, raw in seen], "line")
    for t, raw in seen:
        picture.circle(across(t), joules(raw), 2.6, "dot")
    picture.text(0, 16, "power, W", "small soft")
    picture.text(
        0, 140, "energy, J: true (smooth), and what the counter shows (steps)", "small soft"
    )
    picture.line(0, height - 44, WIDTH, height - 44, "axis")
    for ms in range(0, 1_801, 300):
        anchor = {0: "start", 1_800: "end"}.get(ms, "middle")
        picture.text(across(ms * _MS), height - 28, f"{ms / 1000:g} s", "small soft", anchor)
    return picture.svg()


_BOXES = {
    "wall": (0.002, 0.998, 0), "machine": (0.012, 0.88, 1), "psys": (0.022, 0.53, 2),
    "cpu_package": (0.032, 0.52, 3), "cpu_core": (0.042, 0.26, 4),
    "cpu_uncore": (0.27, 0.51, 4), "dram": (0.54, 0.695, 2), "gpu": (0.705, 0.87, 2),
}  # fmt: skip
"""Left and right end as shares of the width, and how deep it lies within others."""
_MACHINES = {
    "Server: RAPL, GPU, meter at the wall": (
        "cpu_package", "cpu_core", "dram", "gpu", "psys", "wall",
    ),
    "Laptop: only psys can be read": ("psys",),
    "Virtual machine with a GPU": ("gpu",),
}  # fmt: skip


def scope() -> str:
    """Which sensors are summed on three machines, as `meters/domains.py` decides."""
    panel, box = 206.0, 24.0
    picture = Picture(
        WIDTH, panel * len(_MACHINES), "What is summed", "Boxes contain what they measure."
    )
    for number, (name, present) in enumerate(_MACHINES.items()):
        top = number * panel
        sources, _ = cut(
            [Source(id=d, kind="counter", domain=d, unit="uJ", device=d) for d in present]
        )
        summed = {source.domain for source in sources if source.summed}
        total = "energy/total_j" if summed - {"gpu", "dram"} else "no total: energy_devices/sum_j"
        picture.text(0, top + 16, name, "head")
        picture.text(0, top + 34, f"summed: {', '.join(sorted(summed))} ({total})", "small soft")
        for domain, (left, right, depth) in _BOXES.items():
            style = "summed" if domain in summed else "read" if domain in present else "box"
            y, bottom = top + 44 + box * depth, top + panel - 14 - 5 * depth
            picture.rect(left * WIDTH, y, (right - left) * WIDTH, bottom - y, style)
            picture.text((left + 0.01) * WIDTH, y + 16, domain, "small")
    caption = (
        "Filled: summed. Solid outline: read, but not summed, because a box within it is or it"
        " contains one that is. Dotted: no sensor here. Between machine and wall lie the losses of"
        " the power supply."
    )
    return _figure(picture.svg(), caption)


def verdict() -> str:
    """Ratios with their intervals, of a model whose repetitions were published."""
    report = _published("paper_series").report
    result = report.metrics[0]
    [family] = [family for family in result.families if family.name == "phi2"]
    caption = (
        "Ten published repetitions of phi2 on a processor (arXiv 2412.15441), analysed here:"
        " diamond, ratio of geometric means; bar, its simultaneous 95 % interval; thin line, the"
        " interval of the pair alone; shaded, the margin of 2 %."
    )
    return _figure(figures.forest(report, result.metric, family), caption)


def seed_models() -> str:
    """Each model's ratio in the published study, and the ratio over models."""
    report = _published("paper_medians").report
    result = report.metrics[0]
    pairs = [pair for pair in result.population.pairs if pair.a == "TORCH / CUDA"][:1]
    caption = (
        "Dots: ratio of the published medians on each model. Diamond: over models like these, with"
        " its simultaneous 95 % interval."
    )
    return _figure(interaction.to_svg(report, result.metric, tuple(pairs)), caption)


def seed_over_models() -> str:
    """The table of pairs over models."""
    report = _published("paper_medians").report
    return _table(supporting_tables.over_models(report, report.metrics[0]))


def seed_savings() -> str:
    """Savings of the best against the worst, over models."""
    return _table(external_tables.grids(_published("paper_medians"))[0])


def seed_claims() -> str:
    """Each published claim, and what follows."""
    return _table(external_tables.grids(_published("paper_medians"))[1]).replace("--:", ":--")


def seed_series() -> str:
    """The claims that only repetitions can answer."""
    return _table(external_tables.grids(_published("paper_series"))[-1]).replace("--:", ":--")


def seed_verdicts() -> str:
    """How many claims follow, in words."""
    follows = [claim.follows for claim in _published("paper_medians").checked]
    return (
        f"Of {len(follows)} claims, **{follows.count('yes')} follow** from the published medians,"
        f" **{follows.count('no')} do not**, and {follows.count('cannot be determined')} cannot be"
        " determined from them."
    )


@functools.cache
def _published(name: str) -> external.ExternalReport:
    words = ["study=null", f"data={_DATA / name}.csv", f"columns={name}"]
    options = compose("analysis", words, keys=["study"])
    del options["tracking"], options["out"]
    return external.analyse(options)


def _table(grid: Grid) -> str:
    """A table without its title."""
    return "\n".join(table_lines(grid)[2:])


def _figure(drawing: str, caption: str) -> str:
    patterns = f'<svg width="0" height="0">{svg.HATCHES}</svg>'
    style, words = f"<style>{svg.STYLE}</style>{patterns}", markdown(caption)
    inner = f"{style}{drawing}<figcaption>{words}</figcaption>".replace("\n", " ")
    return f'<figure class="drawn">{inner}</figure>'


PARTS: dict[str, Callable[[], str]] = {
    part.__name__: part
    for part in (
        *(readme, verbs, codes, joules, scope, verdict),
        *(seed_models, seed_over_models, seed_savings, seed_claims, seed_series, seed_verdicts),
    )
}
