"""What a fit met on its way, and what it reports of that."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fedlit.core.proximal import proximal_term


class Met(NamedTuple):
    """Sums over the examples of a fit, each counted as often as it was met and before the step on it.

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
