"""Sums over the examples that a fit trained on, and the metrics computed from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fedlit.core.proximal import proximal_term


class FitTotals(NamedTuple):
    """Sums over the examples of a fit; each is counted as often as it was trained on, before the step on it.

    Attributes:
        loss: Sum of the task losses.
        hits: Number of examples that were classified correctly.
        samples: Number of examples.
    """

    loss: float
    hits: float
    samples: float

    def metrics(self, squares: Iterable[float], mu: Iterable[float]) -> dict[str, float]:
        """Metrics of the fit: mean loss and accuracy, the proximal term at its end, and the number of samples.

        Args:
            squares: ||w_k - w_t||^2 of each trainable tensor.
            mu: Strength of the proximal term of each tensor.
        """
        return {
            "loss": self.loss / self.samples,
            "accuracy": self.hits / self.samples,
            "proximal": proximal_term(squares, mu),
            "samples": self.samples,
        }
