"""Looking at a study again and again as its seeds come in, without more false findings than one look would make.

A study that stops by itself looks at its contrasts several times, and each look is a chance to be misled. The level
alpha of a whole study is therefore spent over its looks (Lan and DeMets 1983, "Discrete Sequential Boundaries for
Clinical Trials"): by the time that a share t of all seeds allowed is there, alpha t^2 of it (Kim and DeMets 1987). The
level that is left for a look follows from the joint distribution of the test statistics of all looks up to it, which
are correlated, by repeated numerical integration (Armitage, McPherson and Rowe 1969).

The intervals of all looks at these levels hold the true value together with probability 1 - alpha: they are repeated
confidence intervals (Jennison and Turnbull 1989), so a decision may rest on any of them, that of "no difference" too.

The boundaries are those of a known variance, used at Student's t with n - 1 degrees of freedom at the same two-sided
level (Jennison and Turnbull 2000, Section 11.5), which holds the level closely; a test counts errors by simulation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

#: Seeds that are added at a time, where nothing else is said.
BATCH = 5
#: Points that the distribution of a statistic is integrated over: the error of a level is below a thousandth of it.
POINTS = 801
#: How the level is spent: t to this power. Large effects are found early, and the last look loses little.
POWER = 2.0


@dataclass(frozen=True)
class Looks:
    """When a study is looked at.

    Args:
        at: Seeds that each look has, ascending, from 2 up; the last is the most that are allowed.
    """

    at: tuple[int, ...]

    @classmethod
    def every(cls, batch: int, at_least: int, at_most: int) -> Looks:
        """The first at ``at_least`` seeds, then one after each batch of seeds, the last at ``at_most``."""
        return cls((*range(at_least, at_most, batch), at_most))

    def levels(self, alpha: float) -> tuple[float, ...]:
        """The two-sided level of each look, such that all of them together have the level ``alpha``."""
        return _levels(self.at, alpha)

    def after(self, seeds: int) -> int | None:
        """Seeds that the look after one with so many has; None after the last."""
        return next((n for n in self.at if n > seeds), None)


@lru_cache(maxsize=64)
def _levels(at: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    """See `Looks.levels`. The sum of n standard normal differences is a Brownian motion at time n / at[-1]."""
    times = [n / at[-1] for n in at]
    places, masses = np.zeros(1), np.ones(1)  # of the motion, where no look has stopped it so far
    levels, before = [], 0.0
    for time in times:
        spent = alpha * (time**POWER - before**POWER)
        spread = math.sqrt(time - before)
        bound = _bound(places, masses, spread, spent, 12 * math.sqrt(time))
        levels.append(2 * float(norm.sf(bound / math.sqrt(time))))
        places, masses = _moved(places, masses, spread, bound)
        before = time
    return tuple(levels)


def _bound(
    places: NDArray[np.float64], masses: NDArray[np.float64], spread: float, spent: float, largest: float
) -> float:
    """Where a motion that goes on from these places must be cut off for its tails to hold the probability ``spent``."""

    def excess(bound: float) -> float:
        tails = norm.sf((bound - places) / spread) + norm.sf((bound + places) / spread)
        return float(masses @ tails) - spent

    return float(brentq(excess, 0.0, largest))


def _moved(
    places: NDArray[np.float64], masses: NDArray[np.float64], spread: float, bound: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The distribution a step later, within ±bound: points (POINTS,) and the probability of each, by Simpson's rule."""
    points = np.linspace(-bound, bound, POINTS)
    density = norm.pdf((points[:, None] - places) / spread) @ masses / spread
    weights = np.where(np.arange(POINTS) % 2, 4.0, 2.0)
    weights[[0, -1]] = 1.0
    return points, density * weights * (points[1] - points[0]) / 3
