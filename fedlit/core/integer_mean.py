"""The average of a network's integer and boolean buffers."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from fedlit.core.exact import ExactSum
from fedlit.core.ranks import is_distributed
from fedlit.core.records import Weights


class IntegerMean:
    """Running average of integer and boolean entries, free of the order of the clients.

    - A boolean is put to the vote: it changes where clients of more than half of the weight have changed it.
    - An integer that no client has lowered is a counter, as BatchNorm's ``num_batches_tracked`` does: it takes the
      largest of the clients' values.
    - An integer that some client has lowered is no counter: it moves by the weighted mean of the clients' moves,
      rounded to the nearest whole number, halves towards where it was.

    So the vote is the same mean, rounded alike: with a tie, both stay as they were broadcast.

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
        """Gather over all ranks; nothing to do in a single process."""
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
