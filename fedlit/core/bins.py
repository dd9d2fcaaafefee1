"""Groups many classes into bins of consecutive classes, so that tables and pictures stay small."""

from __future__ import annotations

from collections.abc import Sequence

#: The most bins; with no more classes than this, each class is a bin of its own.
MAX_BINS = 100


def bin_width(classes: int) -> int:
    """Number of consecutive classes in a bin, at least 1, for at most ``MAX_BINS`` bins."""
    return max(1, -(-classes // MAX_BINS))


def num_bins(classes: int) -> int:
    """Number of bins for this many classes; the last bin may hold fewer classes than the others."""
    return -(-classes // bin_width(classes))


def bin_names(class_names: Sequence[str]) -> list[str]:
    """The name of each bin: that of its class, or those of its first and last class."""
    width = bin_width(len(class_names))
    if width == 1:
        return list(class_names)
    starts = range(0, len(class_names), width)
    return [f"{class_names[i]} to {class_names[min(i + width, len(class_names)) - 1]}" for i in starts]
