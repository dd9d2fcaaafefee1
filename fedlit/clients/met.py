"""What a fit counts of the examples that it trains on, and what it reports of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fedlit.core.proximal import proximal_term


class Met(NamedTuple):
    """Sums over the examples of a fit, each counted as often as it was trained on, before the step.

    Attributes:
        loss: Of the task loss.
        hits: Of those that were classified right.
        samples: Their number.
    """

    loss: float
    hits: float
    samples: float

    def metrics(self, squares: Iterable[float], mu: Iterable[float]) -> dict[str, float]:
        """What a fit reports: mean loss and accuracy, the proximal term at its end, and the number of samples.

        Args:
            squares: ||w_k - w_t||^2 of each trainable tensor.
            mu: Strength of the proximal term of each.
        """
        return {
            "loss": self.loss / self.samples,
            "accuracy": self.hits / self.samples,
            "proximal": proximal_term(squares, mu),
            "samples": self.samples,
        }
