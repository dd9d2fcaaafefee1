"""The mean of a loss over held-out examples, in batches of any size on any number of ranks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fedlit.core.exact import exact_sum
from fedlit.core.ranks import gather_list


class MeanLoss:
    """The mean over examples from means over batches: the sum of loss times size, divided by the sum of sizes.

    If classes have weights, the size of a batch is the sum of its examples' weights (`divisor`).

    Both sums are exact in float64 and rounded once, so the mean depends neither on the order of the batches nor on
    their distribution over ranks. The mean is NaN if a loss is NaN, or if there are no examples.

    ``torchmetrics.MeanMetric`` is not used, as it ignores the sizes of batches when it lets NaN pass
    (``nan_strategy="disable"``, torchmetrics 1.9, its issue 3434).
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Remove everything that was added."""
        self._losses: list[Tensor] = []
        self._sizes: list[float] = []

    def update(self, loss: Tensor, size: float) -> None:
        """Add the mean loss, a scalar, of ``size`` examples; a size of 0 adds nothing."""
        if size:
            self._losses.append(loss.detach())
            self._sizes.append(size)

    def compute(self) -> float:
        """The mean over the examples of all ranks, the same on each; every rank has to call it."""
        losses = torch.stack(self._losses).tolist() if self._losses else []
        pairs = gather_list(list(zip(losses, self._sizes, strict=True)))
        total = exact_sum([size for _, size in pairs])
        return exact_sum([loss * size for loss, size in pairs]) / total if total else math.nan
