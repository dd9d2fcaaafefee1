"""Counts correct predictions by class, in memory that grows with the number of classes, not with its square."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from fedlit.core.bins import bin_width, num_bins
from fedlit.core.threads import one_thread_if_small


class Scores(NamedTuple):
    """Counts over all predictions, int64.

    Attributes:
        hits: Correct predictions of each class, (C,).
        predicted: Predictions of each class, (C,).
        true: Examples of each class, (C,).
        confusion: Examples by true class (rows) and predicted class (columns), in the bins of `fedlit.core.bins`,
            (b, b); each class is a bin if there are at most ``fedlit.core.bins.MAX_BINS`` classes.
    """

    hits: Tensor
    predicted: Tensor
    true: Tensor
    confusion: Tensor

    def accuracy(self) -> float:
        """Share of correct predictions, in float32; 0 without predictions."""
        return float(_ratio(self.hits.sum().float(), self.true.sum().float()))

    def f1_macro(self) -> float:
        """Mean of F1 = 2 hits / (predicted + true) over the classes that occur or are predicted, in float32."""
        occurs = (self.predicted + self.true) > 0
        f1 = _ratio(2.0 * self.hits, (self.predicted + self.true).float())  # (C,)
        return float(_ratio(f1, occurs.float().sum(-1, keepdim=True)).sum(-1))


class PredictionCounter(Metric):
    """Counts predictions by class, over batches and ranks; ``compute`` gives `Scores`.

    Args:
        classes: Number of classes C; logits are (B, C).
    """

    full_state_update = False
    hits: Tensor
    predicted: Tensor
    true: Tensor
    confusion: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self._width, bins = bin_width(classes), num_bins(classes)
        for name in ("hits", "predicted", "true"):
            self.add_state(name, torch.zeros(classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("confusion", torch.zeros(bins, bins, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Count one batch: logits (B, C) and class numbers (B,)."""
        with one_thread_if_small(logits):
            predictions = logits.argmax(1)
            classes, bins = len(self.hits), len(self.confusion)
            self.hits += torch.bincount(targets[predictions == targets], minlength=classes)
            self.predicted += torch.bincount(predictions, minlength=classes)
            self.true += torch.bincount(targets, minlength=classes)
            pairs = targets // self._width * bins + predictions // self._width  # (B,)
            self.confusion += torch.bincount(pairs, minlength=bins**2).view(bins, bins)

    def compute(self) -> Scores:
        return Scores(self.hits, self.predicted, self.true, self.confusion)


def _ratio(number: Tensor, of: Tensor) -> Tensor:
    """``number / of``, or 0 where ``of`` is 0."""
    return torch.where(of != 0, number / of, torch.zeros_like(number))
