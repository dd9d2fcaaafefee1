"""Estimates how many seeds would decide the open parts of claims."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from fedlit.report.intervals import LEVEL, expected
from fedlit.report.judge import Judgement, Part, looks_at
from fedlit.report.sequential import BATCH, Looks

#: First and largest number of seeds of a study that is proposed to decide the open parts of another.
AT_LEAST, MOST_SEEDS = 5, 60
#: No estimate is given beyond this number of seeds.
MOST_TO_SHOW = 1000


@dataclass(frozen=True)
class Open:
    """A part of a claim that is open.

    Args:
        claim: The claim's number.
        part: Its present result.
        seeds: How many seeds decide it if its mean and spread stay as they are; None if more than allowed.
    """

    claim: int
    part: Part
    seeds: int | None


def open_parts(judged: Sequence[Judgement], looks: Looks, anew: bool = False) -> Iterator[Open]:
    """All open parts of the claims that could be judged.

    Args:
        judged: The claims.
        looks: The looks.
        anew: Whether the looks belong to a new study that has not started.
    """
    for claim in judged:
        for part in claim.parts:
            if part.finding == "open":
                done = 0 if anew else part.seeds
                yield Open(claim.number, part, seeds_needed(part, looks, len(claim.parts), done))


def seeds_needed(part: Part, looks: Looks, parts: int, done: int) -> int | None:
    """Seeds of the look that would decide a part if the mean and spread of its differences stayed as they are.

    This is a rough estimate after few seeds, as mean and spread are then uncertain.

    Args:
        part: The part.
        looks: The looks.
        parts: The number of parts of its claim, which share the level.
        done: Seeds of the last look so far; only later looks count.

    Returns:
        None if no look would decide it, or if there are fewer than two seeds to estimate from.
    """
    now = part.difference
    if now.n < 2:
        return None
    for look in looks_at(looks, parts):
        then = look.part(part.contrast, expected(now.mean, now.spread, look.seeds, look.level), part.margin)
        if look.seeds > done and then.finding != "open":
            return look.seeds
    return None


def fresh_looks(at_most: int = MOST_SEEDS) -> Looks:
    """The looks of a new study that stops when its claims are decided."""
    return Looks.every(BATCH, min(AT_LEAST, at_most), at_most)


def seeds_to_show(effect: float, spread: float, tests: int = 1) -> int | None:
    """The number of seeds at which a test finds a true difference of this size 4 times in 5.

    Args:
        effect: The absolute size.
        spread: Standard deviation of the paired differences.
        tests: The number of tests, which share the level.

    Returns:
        None for more than `MOST_TO_SHOW`, or if effect or spread is unknown.
    """
    tail = (1 - LEVEL) / 2 / tests
    reach = ((n, stdtrit(n - 1, 1 - tail) + stdtrit(n - 1, 0.8)) for n in range(2, MOST_TO_SHOW + 1))
    enough = (n for n, errors in reach if errors * spread / math.sqrt(n) <= effect)
    return next(enough, None)
