"""Group-sequential tests: look at a study several times while seeds are added, with the error rate of a single look.

Each look at the contrasts of a study is another chance of a false finding. The level alpha of the whole study is
therefore spent over its looks (Lan and DeMets 1983, "Discrete Sequential Boundaries for Clinical Trials"): when a share
t of all allowed seeds has been run, alpha t^2 has been spent (Kim and DeMets 1987). The level of each look follows from
the joint distribution of the correlated test statistics of all looks so far, by repeated numerical integration
(Armitage, McPherson and Rowe 1969).

The intervals of all looks at these levels contain the true value simultaneously with probability 1 - alpha. They are
repeated confidence intervals (Jennison and Turnbull 1989), so any of them may decide, also on "no difference".

The boundaries assume a known variance and are used with Student's t with n - 1 degrees of freedom at the same two-sided
level (Jennison and Turnbull 2000, Section 11.5), which keeps the level closely; a test counts errors by simulation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

#: Default number of seeds that are added at a time.
BATCH = 5
#: Number of points of the numerical integration: the relative error of a level is below a thousandth.
POINTS = 801
#: The level is spent as t to this power, so that large effects are found early and the last look loses little.
POWER = 2.0


@dataclass(frozen=True)
class Looks:
    """The looks at a study.

    Args:
        at: Number of seeds at each look, ascending, >= 2; the last is the largest allowed number.
    """

    at: tuple[int, ...]

    @classmethod
    def every(cls, batch: int, at_least: int, at_most: int) -> Looks:
        """The first look at ``at_least`` seeds, then one after each batch, the last at ``at_most``."""
        return cls((*range(at_least, at_most, batch), at_most))

    def levels(self, alpha: float) -> tuple[float, ...]:
        """The two-sided level of each look, such that all looks together have the level ``alpha``."""
        return _levels(self.at, alpha)

    def after(self, seeds: int) -> int | None:
        """The number of seeds at the next look after ``seeds``; None after the last."""
        return next((n for n in self.at if n > seeds), None)


@lru_cache(maxsize=64)
def _levels(at: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    """See `Looks.levels`. The sum of n standard normal differences is a Brownian motion at time n / at[-1]."""
    times = [n / at[-1] for n in at]
    places, masses = np.zeros(1), np.ones(1)  # of the motion, if no look has stopped it so far
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
    """The bound such that a motion from these places is beyond it with the probability ``spent``."""

    def excess(bound: float) -> float:
        tails = norm.sf((bound - places) / spread) + norm.sf((bound + places) / spread)
        return float(masses @ tails) - spent

    return float(brentq(excess, 0.0, largest))


def _moved(
    places: NDArray[np.float64], masses: NDArray[np.float64], spread: float, bound: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The distribution one step later, within ±bound: points (POINTS,) and their probabilities, by Simpson's rule."""
    points = np.linspace(-bound, bound, POINTS)
    density = norm.pdf((points[:, None] - places) / spread) @ masses / spread
    weights = np.where(np.arange(POINTS) % 2, 4.0, 2.0)
    weights[[0, -1]] = 1.0
    return points, density * weights * (points[1] - points[0]) / 3
