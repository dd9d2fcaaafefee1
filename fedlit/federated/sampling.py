"""Who takes part in a round, and how much work each client is asked to do."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fedlit.federated.records import ClientTask
from fedlit.seeding import rng


def uniform_cohort(num_clients: int, clients_per_round: int, seed: int, round: int) -> NDArray[np.int64]:
    """Draw a cohort uniformly without replacement, in increasing order (Li et al. 2020, Appendix C.2)."""
    if clients_per_round == num_clients:
        return np.arange(num_clients)
    drawn = rng(seed, "cohort", round).choice(num_clients, clients_per_round, replace=False)
    return np.sort(drawn)


def steps_for(num_examples: int, batch_size: int, epochs: float) -> int:
    """Mini-batches in ``epochs`` passes over the data, at least one; a fraction of a pass rounds up."""
    return max(1, math.ceil(epochs * math.ceil(num_examples / batch_size) - 1e-9))


def deal(tasks: list[ClientTask], num_ranks: int) -> list[list[ClientTask]]:
    """Deal a cohort to ranks, the largest task first, each to the rank with the least work so far.

    Graham 1969, "Bounds on multiprocessing timing anomalies": at most 4/3 of the best makespan. Every task goes to
    exactly one rank; the result is a function of the tasks alone, so all ranks agree without talking.
    """
    shares: list[list[ClientTask]] = [[] for _ in range(num_ranks)]
    loads = [0] * num_ranks
    for task in sorted(tasks, key=lambda task: (-task.steps, task.client)):
        rank = loads.index(min(loads))
        shares[rank].append(task)
        loads[rank] += task.steps
    return shares
