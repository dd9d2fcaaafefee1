"""Scores by which a study chooses the best combination."""

from __future__ import annotations

from collections.abc import Sequence

#: Number of last rounds over which the metric is averaged.
SELECT_ROUNDS = 5


def score(values: Sequence[float]) -> float:
    """The mean of a metric over the last rounds of a run; NaN if there are no values."""
    last = values[-SELECT_ROUNDS:]
    return float(sum(last) / len(last)) if len(last) else float("nan")


def order(metric: str) -> int:
    """1 if lower values of a metric are better, as for a loss; else -1."""
    return 1 if metric.endswith("loss") else -1
