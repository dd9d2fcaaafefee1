"""What of a cohort's answers can be averaged."""

from __future__ import annotations

import torch
from lightning.pytorch.utilities import rank_zero_warn

from fedlit.errors import InputError
from fedlit.federated.ranks import gathered
from fedlit.federated.records import ClientUpdate


class Screen:
    """Tells a round's updates from those that are no numbers (NaN or infinite), which would end any average.

    Args:
        max_rejected: Share of the updates that may be no numbers, 0 to 1.
    """

    def __init__(self, max_rejected: float) -> None:
        self._max_rejected = max_rejected
        self._passed: dict[int, bool] = {}

    def passes(self, update: ClientUpdate) -> bool:
        """Whether all floats of an update are finite; remembered for its client."""
        # Minimum and maximum are NaN where anything is: one pass, a tenth of the time of isfinite.
        extremes = torch.stack(update.weights.floats.aminmax())
        self._passed[update.task.client] = passed = bool(extremes.isfinite().all())
        return passed

    def reduce(self) -> None:
        """Gather over all ranks, so that all decide alike; nothing to do in a single process."""
        self._passed = gathered(self._passed)

    @property
    def rejected(self) -> list[int]:
        """The clients that did not pass, in order."""
        return sorted(client for client, passed in self._passed.items() if not passed)

    def check(self, round: int) -> None:
        """Warn of the clients of round ``round``, from 0, that did not pass.

        Raises:
            InputError: When they are more than ``max_rejected`` of those that answered.
        """
        if not self.rejected:
            return
        clients = ", ".join(str(client) for client in self.rejected)
        share = f"{len(self.rejected)} of {len(self._passed)} updates of round {round + 1} are not finite"
        if len(self.rejected) > self._max_rejected * len(self._passed):
            raise InputError(
                f"{share} (client {clients}), more than federation.max_rejected = {self._max_rejected} allows; lower "
                "the learning rate of model.client_optimizer or look at these clients' data; the checkpoint of the "
                "round before is whole"
            )
        rank_zero_warn(f"{share} and were left out of the average: client {clients}")
