"""The keys of conf/analysis.yaml."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from slm_energy.analysis import AnalysisOptions, options
from slm_energy.errors import ConfigError

FILE = Path(__file__).parents[2] / "conf" / "analysis.yaml"


def test_the_file_has_the_defaults_and_no_other_key():
    loaded = OmegaConf.to_container(OmegaConf.merge(OmegaConf.load(FILE), {"study": "toy"}))
    known = {key: value for key, value in loaded.items() if key not in ("defaults", "hydra")}
    known = {key: known[key] for key in known if key in AnalysisOptions.__dataclass_fields__}
    assert options(known) == AnalysisOptions(study="toy")
    assert set(known) == set(AnalysisOptions.__dataclass_fields__)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("marign", 0.1, "marign=0.1: no such key; analysis has: study, metrics, factors, families"),
        ("margin", 2, "margin=2.0 is out of range: between 0 and 0.5"),
        ("alpha", "small", "alpha='small' is not valid: alpha: expected float"),
        ("draws", 10, "draws=10 is out of range: between 999 and"),
        ("families", "model", "families='model' is not valid: families: expected a list"),
        ("factors", ["engine", "engine"], "factors names 'engine' twice: once is enough"),
        ("metrics", [], "metrics=[] is empty"),
        ("study", "", "study is missing: name the study to report on with study=NAME"),
    ],
)
def test_a_wrong_key_or_value_is_one_clear_line(key, value, message):
    with pytest.raises(ConfigError) as error:
        options({"study": "toy", key: value})
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
