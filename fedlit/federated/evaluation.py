"""The scores of a network on held-out data, collected over batches and ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from fedlit.clients.gradients import divisor
from fedlit.federated.mean_loss import MeanLoss
from fedlit.federated.scores import PredictionCounter, Scores

Net = Callable[[Tensor], Tensor]


class Evaluation(nn.Module):
    """Scores and mean loss of all examples since the last `compute`, the same on every rank.

    It is a module so that its counts move to the server's device; checkpoints do not contain them.

    Args:
        classes: Number of classes C.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self._tally = PredictionCounter(classes)
        self._loss = MeanLoss()

    def update(self, logits: Tensor, targets: Tensor, losses: Iterable[tuple[Tensor, float]]) -> None:
        """Add one batch.

        Args:
            logits: (B, C).
            targets: Class numbers, (B,).
            losses: The mean loss of each part of the batch, with the number that it was divided by (`divisor`).
        """
        self._tally.update(logits, targets)
        for loss, size in losses:
            self._loss.update(loss, size)

    def compute(self) -> tuple[Scores, float]:
        """Scores and mean loss of all examples on all ranks, followed by a reset; every rank has to call it."""
        found = self._tally.compute(), self._loss.compute()
        self._tally.reset()
        self._loss.reset()
        return found


def logits_of(net: Net, loss: nn.Module, inputs: Tensor) -> Tensor:
    """Logits (B, C) of one part of a batch; the loss is not used."""
    return net(inputs.clone())  # a copy: the bits of a product may depend on where in memory its operands begin


def logits_and_loss(net: Net, loss: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, tuple[Tensor, float]]:
    """Logits (B, C) of one part of a batch, and its mean loss with the number that it was divided by."""
    logits = logits_of(net, loss, inputs)
    return logits, (loss(logits, targets), divisor(loss, targets))
