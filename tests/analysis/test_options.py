"""The keys of conf/analysis.yaml."""

import pytest

from slm_energy.analysis import options
from slm_energy.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("marign", 0.1, "marign=0.1: no such key; analysis has: study, metrics, factors, families"),
        ("margin", 2, "margin=2.0 is out of range: at least 0, at most 0.5"),
        ("alpha", "small", "alpha='small' is not valid: expected float"),
        ("draws", 10, "draws=10 is out of range: at least 999, at most 1,000,000"),
        ("families", "model", "families='model' is not valid: expected a list"),
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
