"""The average of a network's integer and boolean buffers."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from fedlit.core.exact import ExactSum
from fedlit.core.ranks import is_distributed
from fedlit.core.records import Weights


class IntegerMean:
    """Running average of integer and boolean entries, independent of the order of the clients.

    - A boolean is decided by majority: it changes if clients with more than half of the weight changed it.
    - An integer that no client lowered is a counter, such as BatchNorm's ``num_batches_tracked``: it takes the largest
      of the clients' values.
    - Any other integer changes by the weighted mean of the clients' changes, rounded to the nearest whole number, a
      half towards zero. The majority of booleans is this mean too: at a tie nothing changes.

    Args:
        start: The state that was broadcast.
    """

    def __init__(self, start: Weights) -> None:
        self._start = _numbers(start)  # (Q + F,)
        self._most, self._least = self._start.clone(), self._start.clone()
        self._moves = ExactSum(len(self._start), self._start.device)
        self._num_counts = len(start.counts)

    def add(self, weights: Weights, weight: float) -> None:
        """Add a client's state with a weight, > 0."""
        if not self._start.numel():
            return
        here = _numbers(weights)
        torch.maximum(self._most, here, out=self._most)
        torch.minimum(self._least, here, out=self._least)
        self._moves.add(here - self._start, weight)

    def reduce(self) -> None:
        """Gather over all ranks; does nothing in a single process."""
        if not is_distributed() or not self._start.numel():
            return
        dist.all_reduce(self._most, op=dist.ReduceOp.MAX)
        dist.all_reduce(self._least, op=dist.ReduceOp.MIN)
        self._moves.reduce()

    def mean(self, total: float) -> tuple[Tensor, Tensor]:
        """The integers (Q,) and the booleans (F,), given the sum of the weights."""
        moved = (self._moves.value() / total).to(self._start.device)
        nearest = self._start + (moved.sign() * (moved.abs() - 0.5).ceil()).long()
        count = self._num_counts
        counts = torch.where(self._least < self._start, nearest, self._most)[:count]
        return counts, nearest[count:].bool()


def _numbers(weights: Weights) -> Tensor:
    return torch.cat([weights.counts, weights.flags.to(weights.counts)])
