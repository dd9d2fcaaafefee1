"""The interface of algorithms: pure functions in which an algorithm may differ from FedAvg and FedProx."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from fedlit.core.average import WeightedMean
from fedlit.core.errors import InputError
from fedlit.core.exact import exact_sum
from fedlit.core.layout import Layout
from fedlit.core.records import Broadcast, ClientTask, ClientUpdate, Weights
from fedlit.mu import Mu
from fedlit.sampling import Sampling

#: Weights of the clients' models in an average: their sizes, or all the same.
Averaging = Literal["size", "uniform"]
#: The server's state of an algorithm, kept from round to round and in checkpoints: tensors and plain values.
State: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Facts:
    """What an algorithm may know about its federation; constant during a run.

    Attributes:
        layout: The positions of the network's tensors in a flat state.
        net: The network; it must not be changed.
        optimizer: A client's optimizer at the start of a fit.
        mu: The rule for the proximal term.
        clip_norm: The greatest norm of the gradient of a client's step; None for no limit.
        num_clients: Number N of all clients.
        clients_per_round: Number K of clients in a round.
        sampling: How the cohort is drawn.
        averaging: Whether clients are weighted by their sizes or uniformly.
        seed: The federation's seed.
        chain: The algorithms of a chain, in their order; empty for a single algorithm.
    """

    layout: Layout
    net: nn.Module
    optimizer: object
    mu: Mu
    clip_norm: float | None
    num_clients: int
    clients_per_round: int
    sampling: Sampling
    averaging: Averaging
    seed: int
    chain: tuple[Algorithm, ...] = ()

    def before(self, part: Algorithm) -> tuple[Algorithm, ...]:
        """The algorithms before ``part`` in the chain."""
        places = [place for place, each in enumerate(self.chain) if each is part]
        return self.chain[: places[0]] if places else ()

    @property
    def local(self) -> tuple[str, ...]:
        """Names of the trainable tensors that an algorithm of the chain keeps with the clients; known after prepare."""
        names = frozenset[str]().union(*(part.local for part in self.chain))
        return tuple(name for name in self.layout.trainable if name in names)

    def shared(self, vector: Tensor) -> Tensor:
        """A vector (T,) with zeros at the parameters that stay with the clients, whose fits start from their own."""
        return vector.index_fill(0, self._local_positions(vector.device), 0.0) if self.local else vector

    def replaced_local(self, vector: Tensor, other: Tensor) -> Tensor:
        """A vector (T,) with the values of another one at the parameters that stay with the clients."""
        if not self.local:
            return vector
        where = self._local_positions(vector.device)
        return vector.index_copy(0, where, other[where].to(vector))

    def _local_positions(self, device: torch.device) -> Tensor:
        return self.layout.positions(self.local).to(device)

    def plain_sgd(self, algorithm: str) -> Mapping[str, Any]:
        """The settings of the clients' optimizer, which has to be SGD.

        Raises:
            InputError: If it is another optimizer, for which the algorithm is not defined.
        """
        optimizer = self.optimizer
        if isinstance(optimizer, torch.optim.SGD) and len(optimizer.param_groups) == 1:
            return optimizer.param_groups[0]
        found, remedy = type(optimizer).__name__, "set model.client_optimizer to torch.optim.SGD"
        if isinstance(optimizer, torch.optim.SGD):
            found, remedy = f"{len(optimizer.param_groups)} groups of parameters", "let the optimizer have one group"
        elif not isinstance(optimizer, torch.optim.Optimizer):  # of a client of the user's
            found = "an optimizer that only a fit can make" if optimizer is None else f"a {found} of optimizers"
            remedy = "let the client's configure_optimizers return one torch.optim.SGD"
        raise InputError(
            f"{algorithm} is defined for clients that train with SGD of one learning rate, not with {found}; {remedy}"
        )

    def single_mu(self, algorithm: str) -> None:
        """Refuse different mu for different parameters, for which the algorithm is not defined.

        Raises:
            InputError: Naming the values of mu.
        """
        found = sorted({self.mu.of(name) for name in self.layout.trainable})
        if len(found) > 1:
            raise InputError(f"{algorithm} is defined for one mu, not for {found}; set model.mu to a number")


class Average(NamedTuple):
    """The average of a cohort's updates.

    Attributes:
        weights: The average.
        total: Sum of the clients' weights in it.
        tasks: Tasks of the clients that were averaged.
        extra: Averages of their states with other weights, each with the sum of its weights, see
            ``Algorithm.extra_weights``.
    """

    weights: Weights
    total: float
    tasks: tuple[ClientTask, ...]
    extra: Mapping[str, tuple[Weights, float]]

    @property
    def answered(self) -> float:
        """Sum of the tasks' weights: ``total`` without what missing clients add to it, see ``counts_missing``."""
        return exact_sum([task.weight for task in self.tasks])


class Algorithm:
    """FedProx, and with mu = 0 FedAvg: clients start from the broadcast, the server takes the weighted mean.

    Another algorithm is a subclass that overrides the methods in which it differs; ``fedlit.algorithms.chain`` combines
    several. In each round these methods are called: ``message`` on the server; ``start``, ``begin`` and ``end`` for
    each client, in the process that trains it; ``transform`` for each update and then ``conclude`` on the server, with
    the same result on every rank. Vectors are flat and in the layout's order: T trainable scalars, P floating-point
    ones.

    An algorithm keeps no state in attributes: its methods depend only on their arguments and on ``facts``. State is
    what a client keeps (``end``) and the server's mapping (``conclude``), which checkpoints hold; random draws come
    from ``fedlit.core.seeding.generator(self.facts.seed, "mine", round)``. A user's own algorithm is tried on made-up
    updates before the first round, and refused if it breaks these rules.
    """

    #: Whether clients of the cohort that did not answer count as updates of zero in the average that it makes; known
    #: after ``prepare``.
    counts_missing: bool = False

    @property
    def name(self) -> str:
        """Its name in messages and checkpoints."""
        return type(self).__name__

    @property
    def changes_fit(self) -> bool:
        """Whether it changes a client's start or gradients."""
        return overrides(self, "start") or overrides(self, "begin")

    @property
    def averages(self) -> bool:
        """Whether it defines how updates are averaged; only one algorithm of a chain may."""
        return overrides(self, "reducer")

    def prepare(self, facts: Facts) -> None:
        """Check the federation once before training, and set ``self.facts``.

        Raises:
            InputError: If the algorithm is not defined for this federation, with the remedy.
        """
        self.facts = facts

    def resume(self, state: State) -> None:
        """Check the server's state in the checkpoint that a run resumes from.

        Raises:
            InputError: If the algorithm cannot resume from it with its present settings, with the remedy.
        """

    @property
    def kept_size(self) -> int:
        """Number of scalars that a client keeps from one of its rounds to the next; known after ``prepare``."""
        return 0

    @property
    def fewest_clients(self) -> int:
        """The fewest clients whose updates it can average, at least 1; known after ``prepare``.

        A fit is refused if in one of its rounds some clients train, but fewer than that.
        """
        return 1

    @property
    def local(self) -> frozenset[str]:
        """Names of the tensors that stay with each client and so have no proximal term."""
        return frozenset()

    # --- the server, before the clients train -------------------------------------------------------------------------

    def message(self, state: State, model: Weights) -> Tensor:
        """A vector (E,) that is sent to the clients with the model, on the model's device."""
        return model.floats[:0]

    # --- a client -----------------------------------------------------------------------------------------------------

    def start(self, floats: Tensor, kept: Tensor | None) -> Tensor:
        """The floating-point state (P,) that a fit starts from.

        Args:
            floats: The state of the broadcast, (P,); it must not be changed.
            kept: The vector that the client kept in its last round, (kept_size,); None in its first.
        """
        return floats

    def begin(self, sent: Broadcast, kept: Tensor | None) -> Tensor | None:
        """A vector (T,) that is added to every gradient of the fit; None adds nothing."""
        return None

    def end(self, sent: Broadcast, ended: Weights, steps: int, kept: Tensor | None) -> Tensor | None:
        """The vector (kept_size,) that the client keeps after a fit of ``steps`` steps that ended in ``ended``."""
        return None

    # --- the server, with the clients' updates ------------------------------------------------------------------------

    def transform(self, sent: Broadcast, update: ClientUpdate) -> ClientUpdate:
        """The update that is averaged in place of the client's.

        ``update.metrics`` has the fit's loss and what the client logged or measured; ``update.kept`` is None, as it is
        on disk. ``update.task._replace(weight=...)`` gives it another weight, > 0, in every average of the round.
        """
        return update

    def reducer(self, sent: Broadcast) -> WeightedMean | None:
        """An empty average for a round's updates; None for the mean with the weights of the clients' tasks."""
        return None

    def extra_weights(self, sent: Broadcast, task: ClientTask) -> Mapping[str, float]:
        """Weights, > 0, by name, of further averages that ``conclude`` needs, of the states without ``transform``."""
        return {}

    def conclude(self, state: State, sent: Broadcast, average: Average) -> tuple[State, Weights]:
        """The server's new state, and the model that its optimizer steps towards; not called without updates."""
        return state, average.weights

    def metrics(self, rounds: int) -> dict[str, float]:
        """Metrics to log after ``rounds`` finished rounds, by names such as ``privacy/epsilon``."""
        return {}


def overrides(algorithm: Algorithm, method: str) -> bool:
    """Whether an algorithm's class overrides a method."""
    return getattr(type(algorithm), method) is not getattr(Algorithm, method)
