import pytest

from slm_energy.doctor.finding import seconds


@pytest.mark.parametrize(
    ("value_s", "text"),
    [(0.00118, "1.18 ms"), (0.1, "0.1 s"), (12.34, "12.3 s"), (999.9, "1,000 s")],
)
def test_lengths_of_time(value_s, text):
    assert seconds(value_s) == text
