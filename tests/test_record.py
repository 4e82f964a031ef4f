from __future__ import annotations

import dataclasses

import pytest

from tests.captures import a_counter


def test_the_columns_of_a_series_are_equally_long() -> None:
    counter = a_counter()
    for column in ("before_ns", "raw", "after_ns"):
        with pytest.raises(ValueError, match="fake/package: the columns of its readings differ"):
            dataclasses.replace(counter, **{column: (1, 2)})
