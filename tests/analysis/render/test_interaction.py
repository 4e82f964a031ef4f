"""The figure of the interaction of models and configurations."""

import xml.etree.ElementTree as ET

import pytest

from slm_energy.analysis.render import interaction
from slm_energy.analysis.result.metric import Metric
from slm_energy.analysis.result.population import ModelRatio, PopulationPair

SVG = "{http://www.w3.org/2000/svg}"
ENERGY = Metric(name="energy/per_output_token_j")


def pair(a, b, *ratios, **joint):
    models = tuple(
        ModelRatio(model=f"m{i} <b>", ratio=ratio, low=ratio * 0.9, high=ratio * 1.1)
        for i, ratio in enumerate(ratios)
    )
    return PopulationPair(a=a, b=b, models=models, won=0, ratio=0.8, **joint)


@pytest.fixture
def picture(report):
    pairs = (
        pair("onnx", "torch", 0.5, 0.8, 1.3, joint_low=0.6, joint_high=1.1, verdict="worse"),
        pair("jit", "torch", 0.9, 0.95, 1.0),
    )
    return ET.fromstring(interaction.to_svg(report, ENERGY, pairs))


def test_every_model_is_a_dot_on_its_interval_and_each_pair_a_diamond(picture):
    dots = [e for e in picture.iter(f"{SVG}circle") if e.get("class") == "dot"]
    intervals = [e for e in picture.iter(f"{SVG}line") if e.get("class") == "thin"]
    diamonds = [e for e in picture.iter(f"{SVG}path") if e.get("class") == "mean"]
    assert (len(dots), len(intervals), len(diamonds)) == (6, 6, 2)
    rights = [float(dot.get("cx").rstrip("%")) for dot in dots[:3]]
    assert rights == sorted(rights)


def test_a_pair_without_an_interval_over_models_has_none(picture):
    assert len([e for e in picture.iter(f"{SVG}line") if e.get("class") == "bar"]) == 1


def test_the_figures_are_in_words_as_well_and_names_are_text(picture):
    words = picture.find(f"{SVG}desc").text
    assert "onnx against torch: m0 <b> 0.500, m1 <b> 0.800, m2 <b> 1.30, over models 0.80" in words
    assert "m2 <b>" in [e.text for e in picture.iter(f"{SVG}text")]
    assert not list(picture.iter(f"{SVG}b"))
