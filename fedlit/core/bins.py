"""Many classes grouped into a few bins of consecutive ones, so that tables and pictures stay small."""

from __future__ import annotations

from collections.abc import Sequence

#: Up to so many classes are shown one by one; more are grouped into bins.
MOST_BINS = 100


def bin_width(classes: int) -> int:
    """Consecutive classes in a bin, at least 1, so that there are at most ``MOST_BINS`` bins."""
    return max(1, -(-classes // MOST_BINS))


def num_bins(classes: int) -> int:
    """Bins that so many classes fill; the last one may hold fewer."""
    return -(-classes // bin_width(classes))


def bin_names(class_names: Sequence[str]) -> list[str]:
    """The name of each bin: that of its class, or of its first and its last one."""
    width = bin_width(len(class_names))
    if width == 1:
        return list(class_names)
    starts = range(0, len(class_names), width)
    return [f"{class_names[i]} to {class_names[min(i + width, len(class_names)) - 1]}" for i in starts]
