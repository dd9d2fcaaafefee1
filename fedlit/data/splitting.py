"""What a partitioner is asked for, and what its answer must be."""

from __future__ import annotations

import inspect

import numpy as np
import torch
from numpy.typing import NDArray

from fedlit.core.counts import as_int
from fedlit.core.errors import InputError
from fedlit.core.seeding import address, isolated_rng, rng
from fedlit.data import partitioners
from fedlit.data.partition import Partition, Partitioner


def clients_by(
    partitioner: Partitioner, labels: NDArray[np.integer], groups: NDArray[np.integer] | None = None
) -> int | None:
    """How many clients the data make of themselves by a partitioner's rule; None where that is not its to say.

    Raises:
        InputError: If it says no whole number from 1 up.
    """
    name, said = f"{type(partitioner).__name__}.clients_of", partitioner.clients_of(labels.copy(), _copied(groups))
    if said is None:
        return None
    if (clients := as_int(name, said)) < 1:
        raise InputError(f"{name} must be at least 1, got {clients}; None leaves it to data.num_clients")
    return clients


def split_by(
    partitioner: Partitioner,
    labels: NDArray[np.integer],
    num_clients: int,
    seed: int,
    groups: NDArray[np.integer] | None = None,
) -> Partition:
    """The partition of these data over that many clients at a seed, the same in every process.

    What is drawn from the global generators of PyTorch, NumPy or Python depends on the seed as well. A rule that is
    not of ``fedlit.data.partitioners``, which draw from nothing else, is asked twice, as it may have a generator of
    its own.

    Raises:
        InputError: If the answer is no such partition, or another one each time.
    """
    first = _split(partitioner, labels, num_clients, seed, groups)
    if type(partitioner).__module__ == partitioners.__name__:
        return first
    if _split(partitioner, labels, num_clients, seed, groups).hash != first.hash:
        raise InputError(
            f"{type(partitioner).__name__}.split makes another partition each time it is called with the same data and "
            "seed, so that no run could be resumed; draw from the rng that it is given, and keep nothing between calls"
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
        raise InputError(f"{name}.split{signature} must take (labels, num_clients, rng, groups=None)") from error
    with isolated_rng(address(seed, "partition"), torch.device("cpu")):
        made = partitioner.split(*given)
    if not isinstance(made, Partition):
        raise InputError(
            f"{name}.split must return a fedlit.data.Partition, got {type(made).__name__}; make one of the client of "
            "each example: Partition.from_assignment(clients, num_clients)"
        )
    if len(made.order) != len(labels):
        raise InputError(
            f"{name}.split gives {len(made.order)} examples to clients, but the data has {len(labels)}; give each to "
            "one client, and leave those that none shall hold out of the data"
        )
    if made.num_clients != num_clients:
        raise InputError(
            f"{name}.split makes {made.num_clients} clients, but num_clients is {num_clients}; set it to "
            f"{made.num_clients}, or have clients_of in {name} say how many there are"
        )
    return made


def _copied(groups: NDArray[np.integer] | None) -> NDArray[np.integer] | None:
    return None if groups is None else groups.copy()
