"""How a study chooses among its combinations."""

from __future__ import annotations

from collections.abc import Sequence

#: Last rounds of a run that a combination is chosen by.
SELECT_ROUNDS = 5


def score(values: Sequence[float]) -> float:
    """Of one run: the mean of a metric over its last rounds; NaN where it has none."""
    last = values[-SELECT_ROUNDS:]
    return float(sum(last) / len(last)) if len(last) else float("nan")


def order(metric: str) -> int:
    """1 for a metric of which the least is the best, which is a loss; else -1."""
    return 1 if metric.endswith("loss") else -1
