"""Splits examples: over clients, by a partitioner whose result is checked, and into training and held-out ones."""

from __future__ import annotations

import inspect

import numpy as np
import torch
from numpy.typing import NDArray

from fedlit.core.counts import at_least, share_of
from fedlit.core.errors import InputError
from fedlit.core.seeding import address, isolated_rng, rng
from fedlit.data import partitioners
from fedlit.data.partition import Partition, Partitioner


def clients_by(
    partitioner: Partitioner, labels: NDArray[np.integer], groups: NDArray[np.integer] | None = None
) -> int | None:
    """The natural number of clients of the data by a partitioner; None if it has none.

    Raises:
        InputError: If it is not a whole number from 1 up.
    """
    name, said = f"{type(partitioner).__name__}.clients_of", partitioner.clients_of(labels.copy(), _copied(groups))
    if said is None:
        return None
    return at_least(1, name, said, "None leaves it to data.num_clients")


def split_by(
    partitioner: Partitioner,
    labels: NDArray[np.integer],
    num_clients: int,
    seed: int,
    groups: NDArray[np.integer] | None = None,
) -> Partition:
    """Partition the data over ``num_clients`` clients, with the same result in every process.

    Draws from the global generators of PyTorch, NumPy or Python depend on the seed as well. A partitioner that is not
    of ``fedlit.data.partitioners`` is called twice, as it may draw from a generator of its own.

    Raises:
        InputError: If the result is not such a partition, or differs in the second call.
    """
    first = _split(partitioner, labels, num_clients, seed, groups)
    if type(partitioner).__module__ == partitioners.__name__:
        return first
    if _split(partitioner, labels, num_clients, seed, groups).hash != first.hash:
        raise InputError(
            f"{type(partitioner).__name__}.split makes another partition each time it is called with the same data and "
            "seed, so no run could be resumed; draw only from its argument rng, and keep no state between calls"
        )
    return first


def _split(
    partitioner: Partitioner,
    labels: NDArray[np.integer],
    num_clients: int,
    seed: int,
    groups: NDArray[np.integer] | None,
) -> Partition:
    name, given = type(partitioner).__name__, (labels.copy(), num_clients, rng(seed, "partition"), _copied(groups))
    signature = inspect.signature(partitioner.split)
    try:
        signature.bind(*given)
    except TypeError as error:
        raise InputError(
            f"{name}.split{signature} must take (labels, num_clients, rng, groups=None); change its arguments"
        ) from error
    with isolated_rng(address(seed, "partition"), torch.device("cpu")):
        made = partitioner.split(*given)
    if not isinstance(made, Partition):
        raise InputError(
            f"{name}.split must return a fedlit.data.Partition, got {type(made).__name__}; make one from the client of "
            "each example: Partition.from_assignment(clients, num_clients)"
        )
    if len(made.order) != len(labels):
        raise InputError(
            f"{name}.split assigns {len(made.order)} examples to clients, but the data has {len(labels)}; assign each "
            "example to one client, and remove unwanted examples from the data"
        )
    if made.num_clients != num_clients:
        raise InputError(
            f"{name}.split makes {made.num_clients} clients, but num_clients is {num_clients}; set it to "
            f"{made.num_clients}, or let {name}.clients_of return that number"
        )
    return made


def _copied(groups: NDArray[np.integer] | None) -> NDArray[np.integer] | None:
    return None if groups is None else groups.copy()


def held_out(strata: NDArray[np.int64], fraction: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw a test set: the same fraction of every stratum, rounded down, so that each keeps training rows.

    Args:
        strata: Stratum of each row (its writer or its class), shape (N,).
        fraction: In (0, 1).
        rng: Source of the draw.

    Returns:
        True at the test rows, shape (N,).
    """
    _, stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)  # (N,), (S,)
    shuffled = rng.permutation(len(strata))
    by_stratum = shuffled[np.argsort(stratum[shuffled], kind="stable")]  # (N,)
    rank = np.arange(len(strata)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # (N,)
    is_test = np.empty(len(strata), dtype=bool)
    is_test[by_stratum] = rank < np.repeat(share_of(sizes, fraction), sizes)
    return is_test
