"""Which clients take part in a round, and how many mini-batches each trains."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedlit.core.records import ClientTask
from fedlit.core.seeding import rng
from fedlit.data.partition import Partition


class Draw(NamedTuple):
    """A cohort.

    Attributes:
        clients: The clients, each once, in increasing order, (K,).
        times: How often each client was drawn, (K,).
    """

    clients: NDArray[np.int64]
    times: NDArray[np.int64]


class Sampling(ABC):
    """Draws the cohort of a round. Subclass it and name the class path in YAML.

    Draws are addressed by (seed, round), so methods compared at one seed have the same cohorts.
    """

    #: Whether a client's probability grows with its size, so that an average weighted by size would count size twice.
    by_size: ClassVar[bool]

    @abstractmethod
    def draw(self, partition: Partition, clients_per_round: int, seed: int, round: int) -> Draw:
        """Draw ``clients_per_round`` clients for a round, counted from 0."""


class UniformSampling(Sampling):
    """All clients have the same probability, without replacement (the experiments of Li et al. 2020, Appendix C.2).

    The average then weights clients by their sizes n_k.
    """

    by_size = False

    def draw(self, partition: Partition, clients_per_round: int, seed: int, round: int) -> Draw:
        clients = uniform_cohort(partition.num_clients, clients_per_round, seed, round)
        return Draw(clients, np.ones(len(clients), dtype=np.int64))


class SizeSampling(Sampling):
    """Clients are drawn with probability p_k = n_k / n, with replacement (Li et al. 2020, Algorithms 1 and 2).

    The average then weights all draws equally, which makes it unbiased (Li et al. 2020, "On the convergence of FedAvg
    on non-IID data", Scheme I). A client drawn twice trains once and counts twice, so a cohort may have fewer clients
    than ``clients_per_round``.
    """

    by_size = True

    def draw(self, partition: Partition, clients_per_round: int, seed: int, round: int) -> Draw:
        samples = rng(seed, "cohort", round).integers(len(partition.order), size=clients_per_round)
        owners = np.searchsorted(partition.offsets, samples, side="right") - 1  # the owners of the drawn samples
        return Draw(*np.unique(owners, return_counts=True))


def uniform_cohort(num_clients: int, clients_per_round: int, seed: int, round: int) -> NDArray[np.int64]:
    """Draw a cohort uniformly without replacement, in increasing order (Li et al. 2020, Appendix C.2)."""
    if clients_per_round == num_clients:
        return np.arange(num_clients)
    drawn = rng(seed, "cohort", round).choice(num_clients, clients_per_round, replace=False)
    return np.sort(drawn)


def steps_for(num_examples: int, batch_size: int, epochs: float) -> int:
    """Mini-batches in ``epochs`` passes over the data, at least one; a fraction of a pass rounds up."""
    return max(1, math.ceil(epochs * math.ceil(num_examples / batch_size) - 1e-9))


def distribute(tasks: list[ClientTask], num_ranks: int, together: int = 1) -> list[list[ClientTask]]:
    """Distribute a cohort over ranks: the largest task first, each to the rank with the least work so far.

    Graham 1969, "Bounds on multiprocessing timing anomalies": at most 4/3 of the best makespan. Every task goes to
    exactly one rank; the result depends on the tasks alone, so all ranks agree without communication.

    Args:
        tasks: The tasks of the cohort.
        num_ranks: Number of ranks.
        together: Number of tasks, in the order of their size, that stay on one rank, so that the clients which are
            trained as one program do not depend on the number of ranks.
    """
    shares: list[list[ClientTask]] = [[] for _ in range(num_ranks)]
    loads = [0] * num_ranks
    ordered = sorted(tasks, key=lambda task: (-task.steps, task.client))
    for start in range(0, len(ordered), together):
        block = ordered[start : start + together]
        rank = loads.index(min(loads))
        shares[rank] += block
        loads[rank] += sum(task.steps for task in block)
    return shares
