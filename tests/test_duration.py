import pytest

from slm_energy.duration import duration


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (300, "5 min"), (5400, "1.5 h"), (90_000, "25.0 h")],
)
def test_a_duration_has_the_unit_that_suits_it(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
