"""Which client holds which training sample: the result of a split, and the interface of partitioners."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedlit.core.counts import as_int
from fedlit.core.errors import InputError

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Partition:
    """Every sample assigned to exactly one client, as one permutation cut into ``K`` pieces.

    A million clients cost two integer arrays, never a list of arrays.

    Args:
        order: Permutation of 0..N-1, shape (N,): the samples of client 0, then those of client 1, and so on.
        offsets: Where each client's piece starts, and N at the end, shape (K+1,).
        note: A sentence on what was repaired and how much; empty if nothing was.

    Raises:
        InputError: If a sample is missing or used twice, the offsets do not cut ``order`` into pieces, or either is not
            a list of whole numbers.
    """

    order: IntArray
    offsets: IntArray
    note: str = ""

    def __post_init__(self) -> None:
        order, offsets = whole_numbers("order", self.order), whole_numbers("offsets", self.offsets)
        object.__setattr__(self, "order", order)
        object.__setattr__(self, "offsets", offsets)
        if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(order) or (np.diff(offsets) < 0).any():
            raise InputError(f"offsets must rise from 0 to {len(order)}, the number of samples, got {offsets}")
        if len(order) and (order.min() < 0 or order.max() >= len(order) or (np.bincount(order) != 1).any()):
            raise InputError("order must hold each of 0..N-1 exactly once; a partition uses every sample once")

    @classmethod
    def from_assignment(cls, assignment: IntArray, num_clients: int, note: str = "") -> Partition:
        """Build a partition from the client id of each sample.

        Args:
            assignment: Client of each sample in 0..num_clients-1, shape (N,). A client may be left empty.
            num_clients: Number of clients, K.
            note: See the class.

        Raises:
            InputError: If a client is not a whole number in that range.
        """
        assignment, num_clients = whole_numbers("assignment", assignment), as_int("num_clients", num_clients)
        if len(assignment) and not 0 <= assignment.min() <= assignment.max() < num_clients:
            raise InputError(
                f"client ids must be in 0..{num_clients - 1}, got {assignment.min()}..{assignment.max()}; number the "
                "clients from 0"
            )
        sizes = np.bincount(assignment, minlength=num_clients)  # (K,)
        return cls(np.argsort(assignment, kind="stable"), offsets_of(sizes), note)

    @property
    def num_clients(self) -> int:
        """Number of clients, K."""
        return len(self.offsets) - 1

    @property
    def sizes(self) -> IntArray:
        """Number of samples of each client, shape (K,)."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> IntArray:
        """The client of each sample, shape (N,)."""
        owners = np.empty(len(self.order), dtype=np.int64)
        owners[self.order] = np.repeat(np.arange(self.num_clients), self.sizes)
        return owners

    def client(self, k: int) -> IntArray:
        """The sample indices of client ``k``, a view of shape (n_k,)."""
        if not 0 <= k < self.num_clients:
            raise InputError(f"client must be in 0..{self.num_clients - 1}, got {k}")
        return self.order[self.offsets[k] : self.offsets[k + 1]]

    def restricted(self, chosen: NDArray[np.bool_]) -> Partition:
        """The same clients with only the chosen samples (a mask, (N,)), which are renumbered in their old order."""
        new_index = np.cumsum(chosen) - 1  # (N,)
        in_order = chosen[self.order]  # (N,)
        kept_before = np.concatenate(([0], np.cumsum(in_order)))  # (N+1,)
        return Partition(new_index[self.order[in_order]], kept_before[self.offsets], self.note)

    def without(self, clients: NDArray[np.bool_]) -> Partition:
        """The partition without some clients (a mask, (K,)), which must hold no samples; the others move up."""
        return Partition(self.order, np.concatenate(([0], self.offsets[1:][~clients])), self.note)

    @cached_property
    def hash(self) -> str:
        """16 hex digits that are equal if two partitions give every client the same samples in the same order."""
        digest = hashlib.blake2b(digest_size=8)
        digest.update(self.offsets.astype("<i8").tobytes())
        digest.update(self.order.astype("<i8").tobytes())
        return digest.hexdigest()


class Partitioner(ABC):
    """A rule that splits a labelled data set over clients. Subclass it and name the class path in YAML."""

    @abstractmethod
    def split(
        self,
        labels: NDArray[np.integer],
        num_clients: int,
        rng: np.random.Generator,
        groups: NDArray[np.integer] | None = None,
    ) -> Partition:
        """Split all samples over exactly ``num_clients`` clients, each sample to one client.

        Args:
            labels: Class of each sample, shape (N,).
            num_clients: Number of clients, K, at least 1.
            rng: Source of every random choice; the same state gives the same partition.
            groups: Natural owner of each sample (its writer), shape (N,), where the data has one.

        Raises:
            InputError: If there are too few samples for that many clients.
        """

    def clients_of(self, labels: NDArray[np.integer], groups: NDArray[np.integer] | None) -> int | None:
        """The natural number of clients of the data, used if no number is given; None for the default.

        Args:
            labels: As for ``split``.
            groups: As for ``split``.
        """
        return None


def whole_numbers(name: str, values: Any) -> IntArray:
    """Convert an array, a tensor or a list of whole numbers, shape (N,), to int64.

    Raises:
        InputError: If it has another type or shape.
    """
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "biu":
        raise InputError(
            f"{name} of a Partition must be whole numbers of shape (N,), got {array.dtype} of shape {array.shape}; "
            "convert it with astype(numpy.int64)"
        )
    return array.astype(np.int64, copy=False)


def offsets_of(sizes: IntArray) -> IntArray:
    return np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
