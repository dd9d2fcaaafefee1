"""Many classes are grouped into bins."""

from __future__ import annotations

import pytest

from fedlit.core.bins import MAX_BINS, bin_names, bin_width, num_bins


@pytest.mark.parametrize("classes", [1, 2, 47, 99, 100, 101, 150, 200, 201, 2000, 99_999, 100_000, 1_000_000])
def test_bins_are_few_and_hold_every_class_once(classes: int) -> None:
    width, bins = bin_width(classes), num_bins(classes)
    assert 1 <= bins <= MAX_BINS
    assert (bins - 1) * width < classes <= bins * width
    assert width == 1 or classes > MAX_BINS


def test_a_bin_is_named_by_its_first_and_last_class() -> None:
    assert bin_names(["a", "b"]) == ["a", "b"]
    names = bin_names([str(i) for i in range(250)])
    assert (names[0], names[1], names[-1]) == ("0 to 2", "3 to 5", "249 to 249")
    assert len(names) == num_bins(250) == 84
