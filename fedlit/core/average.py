"""The average of client models: one running weighted sum, whatever the size of the cohort."""

from __future__ import annotations

import torch

from fedlit.core.exact import ExactSum, exact_sum
from fedlit.core.integer_mean import IntegerMean
from fedlit.core.ranks import gather_list
from fedlit.core.records import ClientUpdate, Weights


class WeightedMean:
    """Running weighted mean of flat states, in one model's worth of memory.

    Floating-point entries of parameters and buffers are averaged; integers and booleans follow ``IntegerMean``.
    Sums are exact (``ExactSum``), so the mean does not depend on the order in which clients arrive or on the rank that
    trained them.

    Args:
        like: A state of the shape, type and device of those to come. The mean of nothing is ``like`` itself.
    """

    def __init__(self, like: Weights) -> None:
        self._like = like
        self._sum = ExactSum(len(like.floats), like.floats.device)
        self._whole = IntegerMean(like)
        self._weights: list[float] = []

    @property
    def device(self) -> torch.device:
        """The device of the sums: that of the states, or the CPU if it has no float64."""
        return self._sum.high.device

    @property
    def weight(self) -> float:
        """Sum of the weights."""
        return exact_sum(self._weights)

    @property
    def count(self) -> float:
        """Number of updates."""
        return float(len(self._weights))

    def add(self, update: ClientUpdate) -> None:
        """Add one client's update, with the weight of its task."""
        self.add_state(update.weights, update.task.weight)

    def add_state(self, weights: Weights, weight: float) -> None:
        """Add a state with a weight, > 0."""
        self._sum.add(weights.floats, weight)
        self._whole.add(weights, weight)
        self._weights.append(weight)

    def reduce(self) -> None:
        """Sum over all ranks; does nothing in a single process."""
        self._sum.reduce()
        self._whole.reduce()
        self._weights = gather_list(self._weights)

    def mean(self) -> Weights:
        """The weighted mean, in the type and on the device of ``like``."""
        total = self.weight
        if total == 0:
            return self._like
        return Weights(self._sum.mean(total, self._like.floats), *self._whole.mean(total))
