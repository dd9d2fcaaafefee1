"""What an algorithm of federated learning may do otherwise than FedAvg and FedProx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from fedlit.errors import InputError
from fedlit.federated.aggregate import WeightedMean
from fedlit.federated.mu import Mu
from fedlit.federated.records import Broadcast, ClientTask, Weights
from fedlit.federated.state import Layout
from fedlit.renewable import Renewable

if TYPE_CHECKING:
    from fedlit.federated.client import ClientModule
    from fedlit.federated.loop import FederatedLoop


class Algorithm(Renewable):
    """FedProx, and with mu = 0 FedAvg: clients start from the broadcast, the server takes the weighted mean.

    Another algorithm is a subclass that overrides what it does otherwise. Per round, on the server ``message``, then
    for each client (in whatever process trains it) ``begin`` and ``end``, then on the server, the same on every rank,
    ``aggregation`` filled with all updates and ``conclude``. What it changes of itself in a fit is undone before the
    next fit begins. Vectors are flat and in the layout's order; T is the
    number of trainable scalars.
    """

    #: Whether clients keep a vector from one of their rounds to the next.
    keeps: ClassVar[bool] = False
    #: Whether clients train otherwise than by their loss and the proximal term.
    changes_fit: ClassVar[bool] = False

    def check(self, loop: FederatedLoop) -> None:
        """Look at the federation (its sampling, averaging and ``loop.data``) once before training.

        Raises:
            InputError: When the algorithm is not defined for it, with the remedy.
        """

    def prepare(self, client: ClientModule, mu: Mu, num_clients: int) -> None:
        """Look at the local problem once before training.

        Raises:
            InputError: When the algorithm is not defined for it, with the remedy.
        """

    def check_cohort(self, clients: int) -> None:
        """Refuse, before training, cohorts of a size that the algorithm is not defined for.

        Raises:
            InputError: Naming the size that it needs.
        """

    def message(self, global_model: Weights, layout: Layout) -> Tensor:
        """What is sent to the clients beside the model, (E,), on the model's device."""
        return global_model.floats[:0]

    def begin(self, client: ClientModule, kept: Tensor | None) -> None:
        """Prepare a fit: ``client`` has the broadcast; ``kept`` is what it kept in its last round, None at its first.

        To add a constant vector to every gradient of the fit, set ``client.correction``, (T,).
        """

    def end(self, client: ClientModule, task: ClientTask, kept: Tensor | None) -> Tensor | None:
        """What the client keeps after its fit; None keeps nothing."""
        return None

    def aggregation(self, sent: Broadcast, layout: Layout) -> WeightedMean:
        """An empty average for the updates of a round."""
        return WeightedMean(sent.weights)

    def conclude(self, sent: Broadcast, layout: Layout, updates: WeightedMean) -> Weights:
        """The model that the server's optimizer steps towards; never called without updates."""
        return updates.mean()

    def metrics(self, rounds: int) -> dict[str, float]:
        """What to log after ``rounds`` finished rounds, by name such as ``privacy/epsilon``."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The server's state, to be resumed from."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""


def check_single_mu(client: ClientModule, mu: Mu, algorithm: str) -> None:
    """Refuse parameters that differ in their mu, for which the algorithm is not defined.

    Raises:
        InputError: Naming the strengths.
    """
    found = sorted({mu.of(name) for name in client.layout.trainable})
    if len(found) > 1:
        raise InputError(f"{algorithm} is defined for one mu, not for {found}; set model.mu to a number")


def plain_sgd(client: ClientModule, algorithm: str) -> Mapping[str, Any]:
    """The settings of a client's optimizer, which has to be SGD.

    Raises:
        InputError: When it is another, for which the algorithm is not defined.
    """
    optimizer = client.configure_optimizers()
    if not isinstance(optimizer, torch.optim.SGD) or len(optimizer.param_groups) != 1:
        raise InputError(
            f"{algorithm} is defined for clients that train with SGD of one learning rate, not with "
            f"{type(optimizer).__name__}; set model.client_optimizer to torch.optim.SGD"
        )
    return optimizer.param_groups[0]
