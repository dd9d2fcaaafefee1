"""What would settle what is still open: how many seeds, of which runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from fedlit.report.intervals import LEVEL, expected
from fedlit.report.judge import Judgement, Part, looks_at
from fedlit.report.sequential import BATCH, Looks

#: Seeds that a study begins with and is allowed, where it is made to settle what another has left open.
AT_LEAST, MOST_SEEDS = 5, 60
#: Seeds beyond which no estimate is given.
MOST_TO_SHOW = 1000


@dataclass(frozen=True)
class Open:
    """A part of a claim that is not settled.

    Args:
        claim: Its claim's number.
        part: What is known of it.
        seeds: How many settle it if its mean and its scatter stay as they are; None where the most allowed don't.
    """

    claim: int
    part: Part
    seeds: int | None


def open_parts(judged: Sequence[Judgement], looks: Looks, anew: bool = False) -> Iterator[Open]:
    """All parts that are not settled, of claims that could be judged.

    Args:
        judged: The claims.
        looks: When they are looked at.
        anew: Whether these are the looks of another study, and none of them has been yet.
    """
    for claim in judged:
        for part in claim.parts:
            if part.finding == "open":
                done = 0 if anew else part.seeds
                yield Open(claim.number, part, seeds_needed(part, looks, len(claim.parts), done))


def seeds_needed(part: Part, looks: Looks, parts: int, done: int) -> int | None:
    """Seeds of the look that would settle a part if the mean and the scatter of its differences stayed as they are.

    An estimate, and a rough one after few seeds: both are known to chance only.

    Args:
        part: The part.
        looks: When it is looked at.
        parts: Of its claim, which share the level.
        done: Seeds of the last look that there has been; looks up to it settle nothing.

    Returns:
        None where no look would settle it, or where there are less than two seeds to estimate from.
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
    """The looks of a study of its own that stops when what it asks is decided."""
    return Looks.every(BATCH, min(AT_LEAST, at_most), at_most)


def seeds_to_show(effect: float, spread: float, tests: int = 1) -> int | None:
    """Seeds at which a test finds a true difference of this size 4 times in 5.

    Args:
        effect: The size, without its sign.
        spread: Standard deviation of the paired differences.
        tests: How many are made, among which the level is shared.

    Returns:
        None for more than `MOST_TO_SHOW`, and where one of the two is not known.
    """
    tail = (1 - LEVEL) / 2 / tests
    reach = ((n, stdtrit(n - 1, 1 - tail) + stdtrit(n - 1, 0.8)) for n in range(2, MOST_TO_SHOW + 1))
    enough = (n for n, errors in reach if errors * spread / math.sqrt(n) <= effect)
    return next(enough, None)
