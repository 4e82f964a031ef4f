"""The figure of the interaction: a pair of configurations on each model, and over models."""

from __future__ import annotations

from slm_energy.analysis.render.figures import MARKED, draw_name, draw_ratio_axis, ratio_axis
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.population import PopulationPair
from slm_energy.analysis.result.report import Report
from slm_energy.analysis.text.phrases import number, of_reference, titled
from slm_energy.svg import ROW, WIDTH, Picture

_OVER = "over models"


def to_svg(report: Report, metric: Metric, pairs: tuple[PopulationPair, ...]) -> str:
    """Every model's ratio as a dot on its interval, and the ratio over models as a diamond.

    Dots of one pair that are far apart, compared with their intervals, are an interaction: which
    configuration is better, or by how much, depends on the model.

    Args:
        report: its margin is shaded.
        metric: what the ratios are of.
        pairs: at least one.
    """
    margin = report.options.margin
    rows = [(pair, model) for pair in pairs for model in pair.models]
    ends = [
        v
        for pair in pairs
        for v in (pair.joint_low, pair.joint_high, *(m.ratio for m in pair.models))
    ]
    ends += [v for _, model in rows for v in (model.low, model.high)]
    heads = [f"{pair.a} against {pair.b}" for pair in pairs]
    axis = ratio_axis(margin, [v for v in ends if v])
    height = (len(rows) + len(pairs)) * MARKED + len(pairs) * ROW + 56
    words = "; ".join(
        f"{head}: " + ", ".join(f"{m.model} {number(m.ratio)}" for m in pair.models)
        + f", {_OVER} {number(pair.ratio)}"
        for head, pair in zip(heads, pairs, strict=True)
    )  # fmt: skip
    title = f"{metric.heading}: ratios model by model, and over models{titled(report, metric)}"
    picture = Picture(WIDTH, height, title, words, estimated=metric.estimated)
    draw_ratio_axis(picture, axis, height, margin, "ratio")
    top = 4.0
    for head, pair in zip(heads, pairs, strict=True):
        picture.text(0, top + 14, head, "head")
        top += ROW
        for model in pair.models:
            y = draw_name(picture, model.model, top, of_reference(model.ratio))
            if model.low is not None and model.high is not None:
                picture.line(axis(model.low), y, axis(model.high), y, "thin")
            picture.circle(axis(model.ratio), y, 4, "dot", f"{model.model}: {number(model.ratio)}")
            top += MARKED
        y = draw_name(picture, _OVER, top, f"{of_reference(pair.ratio)}: {pair.verdict}")
        if pair.joint_low is not None and pair.joint_high is not None:
            picture.span(axis(pair.joint_low), axis(pair.joint_high), y)
        picture.diamond(axis(pair.ratio), y, "mean")
        top += MARKED
    return picture.svg()
