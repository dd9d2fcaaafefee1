"""Axes of the pictures in a report's page."""

from __future__ import annotations

import pytest

from fedlit.report.svg import _ticks


@pytest.mark.parametrize(
    ("ends", "rounds"),
    [((2.5, 3.5), ["3"]), ((0.5, 1.5), ["1"]), ((1, 2), ["1", "2"]), ((1, 20), ["5", "10", "15", "20"])],
)
def test_an_axis_of_rounds_names_whole_rounds_even_of_one_round(ends: tuple[float, float], rounds: list[str]) -> None:
    assert list(_ticks(ends, 6, whole=True).values()) == rounds
