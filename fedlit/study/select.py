"""Scores by which a study chooses the best combination."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from fedlit.core.errors import InputError

#: Last rounds of a run that a combination is chosen by.
SELECT_ROUNDS = 5
#: From the word before a metric to the sign that sorts the best first.
WAYS = {"lowest": 1, "highest": -1}
#: Metrics of which it is known which way is better.
LOWEST, HIGHEST = re.compile(r".*loss"), re.compile(r".*(accuracy|f1)(_mean|_macro|_p\d+)?")


def score(values: Sequence[float]) -> float:
    """The mean of a metric over the last rounds of a run; NaN if there are no values."""
    last = values[-SELECT_ROUNDS:]
    return float(sum(last) / len(last)) if len(last) else float("nan")


def mean(scores: Sequence[float]) -> float:
    """Over seeds."""
    return float(sum(scores) / len(scores))


def check_select(select: object) -> str:
    """What a study file gives for ``select``: a metric, after ``lowest`` or ``highest`` where its name does not tell.

    Raises:
        InputError: When it is another thing, or does not say which way is better.
    """
    if not isinstance(select, str) or not metric_of(select):
        raise InputError(f"select must be a metric of the rounds, got {select}; for example global/accuracy")
    way, _, metric = select.rpartition(" ")
    if way not in WAYS and (way or not (LOWEST.fullmatch(metric) or HIGHEST.fullmatch(metric))):
        raise InputError(
            f"select: which {metric} is the best, the lowest or the highest? got {select}; write lowest {metric}, or "
            f"highest {metric}"
        )
    return select


def metric_of(select: str) -> str:
    """The metric's name, as ``metrics.csv`` has it."""
    return select.rpartition(" ")[2]


def order(select: str) -> int:
    """1 where the least is the best, as of a loss, or of what is said to be; else -1."""
    way = select.rpartition(" ")[0]
    return WAYS.get(way, 1 if LOWEST.fullmatch(metric_of(select)) else -1)


def rank(select: str, scores: Sequence[float]) -> tuple[bool, float]:
    """What sorts combinations by their scores at each seed, the best first, and last those that diverged at any."""
    found = mean(scores)
    return not math.isfinite(found), order(select) * found
