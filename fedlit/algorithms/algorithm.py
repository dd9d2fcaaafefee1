"""The interface of algorithms: where one may differ from FedAvg and FedProx, in functions of values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from fedlit.core.average import WeightedMean
from fedlit.core.errors import InputError
from fedlit.core.layout import Layout
from fedlit.core.records import Broadcast, ClientTask, ClientUpdate, Weights
from fedlit.mu import Mu
from fedlit.sampling import Sampling

#: What an algorithm's server side remembers from round to round: tensors and plain values, kept in checkpoints.
State: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Facts:
    """What an algorithm may know of its federation; the same for a whole run.

    Attributes:
        layout: Where the network's tensors stand in a flat state.
        net: The network, to be looked at and not changed.
        optimizer: A client's optimizer as it begins a fit.
        mu: The rule for the proximal term.
        clip_norm: The greatest norm of the gradient of a client's step; None is no limit.
        num_clients: All clients, N.
        clients_per_round: Those of a round, K.
        sampling: How a round's are drawn.
        averaging: Whether they are weighted by their sizes or all alike.
        seed: The federation's seed.
        chain: The algorithms that are combined, in their order; empty for one that stands alone.
    """

    layout: Layout
    net: nn.Module
    optimizer: object
    mu: Mu
    clip_norm: float | None
    num_clients: int
    clients_per_round: int
    sampling: Sampling
    averaging: Literal["size", "uniform"]
    seed: int
    chain: tuple[Algorithm, ...] = ()

    def before(self, part: Algorithm) -> tuple[Algorithm, ...]:
        """What stands before an algorithm in the chain."""
        places = [place for place, each in enumerate(self.chain) if each is part]
        return self.chain[: places[0]] if places else ()

    def plain_sgd(self, algorithm: str) -> Mapping[str, Any]:
        """The settings of the clients' optimizer, which has to be SGD.

        Raises:
            InputError: When it is another, for which the algorithm is not defined.
        """
        optimizer = self.optimizer
        if not isinstance(optimizer, torch.optim.SGD) or len(optimizer.param_groups) != 1:
            raise InputError(
                f"{algorithm} is defined for clients that train with SGD of one learning rate, not with "
                f"{type(optimizer).__name__}; set model.client_optimizer to torch.optim.SGD"
            )
        return optimizer.param_groups[0]

    def single_mu(self, algorithm: str) -> None:
        """Refuse parameters that differ in their mu, for which the algorithm is not defined.

        Raises:
            InputError: Naming the strengths.
        """
        found = sorted({self.mu.of(name) for name in self.layout.trainable})
        if len(found) > 1:
            raise InputError(f"{algorithm} is defined for one mu, not for {found}; set model.mu to a number")


class Average(NamedTuple):
    """The average of a cohort's updates, and what it was made of.

    Attributes:
        weights: Their average.
        total: Sum of the weights that they had in it.
        tasks: What was asked of the clients that were averaged.
        extra: Averages of their states with other weights, and the sums of those, see ``Algorithm.extra_weights``.
    """

    weights: Weights
    total: float
    tasks: tuple[ClientTask, ...]
    extra: Mapping[str, tuple[Weights, float]]


class Algorithm:
    """FedProx, and with mu = 0 FedAvg: clients start from the broadcast, the server takes the weighted mean.

    Another algorithm is a subclass that overrides what it does otherwise; several are combined by
    ``fedlit.algorithms.chain``. Per round, on the server ``message``; for each client, in whatever process trains it,
    ``start``, ``begin`` and ``end``; on the server ``transform`` for each update, then ``conclude``, which is the same
    on every rank. Vectors are flat and in the layout's order: T trainable scalars, P floating-point ones.

    An algorithm remembers nothing by itself, in attributes for example: its methods give what follows from their
    arguments and the facts. Clients have what they kept, the server has a mapping that goes into checkpoints, and draws
    are made at an address, ``fedlit.core.seeding.generator(self.facts.seed, "mine", round)``. An algorithm of one's own
    is tried on made-up updates before the first round, and refused where it does otherwise.
    """

    #: Whether a client's weight in the average that it makes does not depend on who else answered; known after
    #: ``prepare``.
    counts_missing: bool = False

    @property
    def name(self) -> str:
        """What it is called in messages and in checkpoints."""
        return type(self).__name__

    @property
    def changes_fit(self) -> bool:
        """Whether it changes a client's start or gradients."""
        return overrides(self, "start") or overrides(self, "begin")

    @property
    def averages(self) -> bool:
        """Whether it says how updates are averaged; of a chain one may."""
        return overrides(self, "reducer")

    def prepare(self, facts: Facts) -> None:
        """Check the federation once before training, and keep ``self.facts``.

        Raises:
            InputError: When the algorithm is not defined for it, with the remedy.
        """
        self.facts = facts

    def resume(self, state: State) -> None:
        """Check the server's state in the checkpoint that a run resumes from.

        Raises:
            InputError: When the algorithm with its present settings cannot resume from it, with the remedy.
        """

    @property
    def kept_size(self) -> int:
        """How many scalars a client keeps from one of its rounds to the next; known after ``prepare``."""
        return 0

    @property
    def local(self) -> frozenset[str]:
        """Names of the state that stays with each client, and so has no proximal term."""
        return frozenset()

    # --- the server, before the clients train -------------------------------------------------------------------------

    def message(self, state: State, model: Weights) -> Tensor:
        """What is sent to the clients beside the model, (E,), on the model's device."""
        return model.floats[:0]

    # --- a client -----------------------------------------------------------------------------------------------------

    def start(self, floats: Tensor, kept: Tensor | None) -> Tensor:
        """The floating-point state (P,) that a fit starts from, in place of the broadcast's, ``floats``.

        Args:
            floats: (P,), not to be written to.
            kept: What the client kept in its last round, (kept_size,); None at its first.
        """
        return floats

    def begin(self, sent: Broadcast, kept: Tensor | None) -> Tensor | None:
        """A vector (T,) that is added to every gradient of the fit; None adds nothing."""
        return None

    def end(self, sent: Broadcast, ended: Weights, steps: int, kept: Tensor | None) -> Tensor | None:
        """What the client keeps after a fit of so many steps that left the state ``ended``, (kept_size,)."""
        return None

    # --- the server, with the clients' updates ------------------------------------------------------------------------

    def transform(self, sent: Broadcast, update: ClientUpdate) -> ClientUpdate:
        """The update that is averaged in place of a client's."""
        return update

    def reducer(self, sent: Broadcast) -> WeightedMean | None:
        """An empty average for a round's updates; None is the mean with the weights of the clients' tasks."""
        return None

    def extra_weights(self, sent: Broadcast, task: ClientTask) -> Mapping[str, float]:
        """Weights, > 0, of further averages of the clients' states, as they came, that ``conclude`` needs."""
        return {}

    def conclude(self, state: State, sent: Broadcast, average: Average) -> tuple[State, Weights]:
        """The server's new state, and the model that its optimizer steps towards; never called without updates."""
        return state, average.weights

    def metrics(self, rounds: int) -> dict[str, float]:
        """What to log after ``rounds`` finished rounds, by name such as ``privacy/epsilon``."""
        return {}


def overrides(algorithm: Algorithm, method: str) -> bool:
    """Whether an algorithm's class overrides a method."""
    return getattr(type(algorithm), method) is not getattr(Algorithm, method)
