"""Scores by which a study, and its report, choose the best combination of settings."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from fedlit.core.errors import InputError
from fedlit.runs.read import rows_of

#: The score of a run is the mean of the metric over this many last rounds.
SELECT_ROUNDS = 5
#: Words before a metric, and the sign with which ascending order puts the best first.
DIRECTIONS = {"lowest": 1, "highest": -1}
#: Names of metrics whose low, or high, values are better.
LOWEST, HIGHEST = re.compile(r".*loss"), re.compile(r".*(accuracy|f1)(_mean|_macro|_p\d+)?")

#: What has the scores, such as a combination of settings.
Ranked = TypeVar("Ranked")


def scores_of(runs: Iterable[tuple[Ranked, Path]], metric: str, until: int) -> dict[Ranked, list[float]]:
    """The score of each run, by what its settings are, in the order of the runs; NaN for a run without the metric.

    Args:
        runs: What the settings of each run are, and its folder.
        metric: A column of ``metrics.csv``, which may be empty in rounds that did not measure it.
        until: The last round that counts, the same for all runs.
    """
    found: dict[Ranked, list[float]] = {}
    for settings, folder in runs:
        rows = (row for row in rows_of(folder) if int(row["round"]) <= until)
        found.setdefault(settings, []).append(score([float(value) for row in rows if (value := row.get(metric))]))
    return found


def best_first(select: str, scores: Mapping[Ranked, Sequence[float]]) -> list[Ranked]:
    """Those with the scores, the best mean first; those that diverged at any seed come last."""
    return sorted(scores, key=lambda each: rank(select, scores[each]))


def score(values: Sequence[float]) -> float:
    """The mean of a metric over the last rounds of a run; NaN if there are no values."""
    last = values[-SELECT_ROUNDS:]
    return float(sum(last) / len(last)) if len(last) else float("nan")


def mean(scores: Sequence[float]) -> float:
    """The mean of a combination's scores over seeds."""
    return float(sum(scores) / len(scores))


def check_select(select: object) -> str:
    """The checked value of ``select`` in a study file: ``METRIC``, ``lowest METRIC`` or ``highest METRIC``.

    Raises:
        InputError: If it is not of this form, or if a metric alone does not show whether low or high values are better.
    """
    if not isinstance(select, str) or not metric_of(select):
        raise InputError(f"select must be a metric of the rounds, got {select}; for example global/accuracy")
    direction, _, metric = select.rpartition(" ")
    if direction not in DIRECTIONS and (direction or not (LOWEST.fullmatch(metric) or HIGHEST.fullmatch(metric))):
        raise InputError(
            f"select must state whether low or high values of {metric} are better, got {select}; write lowest {metric} "
            f"or highest {metric}"
        )
    return select


def metric_of(select: str) -> str:
    """The metric's name, which is a column of ``metrics.csv``."""
    return select.rpartition(" ")[2]


def order(select: str) -> int:
    """1 if the lowest value is the best, as for a loss; -1 if the highest is."""
    direction = select.rpartition(" ")[0]
    return DIRECTIONS.get(direction, 1 if LOWEST.fullmatch(metric_of(select)) else -1)


def rank(select: str, scores: Sequence[float]) -> tuple[bool, float]:
    """The sort key of a combination with these scores over seeds.

    The best comes first; a combination that diverged at any seed comes last.
    """
    found = mean(scores)
    return not math.isfinite(found), order(select) * found
