"""Labelled examples in memory, and mini-batches sliced from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedlit.core.errors import InputError


@dataclass(frozen=True, eq=False)
class Examples:
    """A data set in memory.

    Args:
        inputs: uint8 (pixels), int64 (tokens) or float32, shape (N, ...); images are (N, C, H, W).
        targets: Class of each input, int64, shape (N,).
        groups: Natural owner of each input (its writer), shape (N,), stored on the CPU as int64: integers as they are,
            anything else (names) numbered in sorted order; None if unknown.

    Raises:
        InputError: If the lengths differ or a type is not one of these.
    """

    inputs: Tensor
    targets: Tensor
    groups: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        for name, value in (("inputs", self.inputs), ("targets", self.targets)):
            if not isinstance(value, Tensor):
                raise InputError(f"{name} must be a torch.Tensor, got {type(value).__name__}; use torch.from_numpy")
        if self.groups is not None:
            object.__setattr__(self, "groups", _as_groups(self.groups))
        if self.inputs.dtype not in (torch.uint8, torch.int64, torch.float32):
            raise InputError(f"inputs must be uint8, int64 or float32, got {self.inputs.dtype}; convert them first")
        if self.targets.dtype != torch.int64 or self.targets.ndim != 1:
            raise InputError(
                f"targets must be int64 class numbers of shape (N,), got {self.targets.dtype} of shape "
                f"{tuple(self.targets.shape)}; convert them first"
            )
        if len(self.inputs) != len(self.targets):
            raise InputError(f"{len(self.inputs)} inputs but {len(self.targets)} targets; give one target per input")
        if self.groups is not None and len(self.groups) != len(self.targets):
            raise InputError(f"{len(self.targets)} targets but {len(self.groups)} groups; give one group per input")

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: NDArray[np.int64]) -> Examples:
        """The examples at ``rows``, copied."""
        index = torch.from_numpy(rows).to(self.inputs.device)
        return Examples(self.inputs[index], self.targets[index], None if self.groups is None else self.groups[rows])

    def copy(self) -> Examples:
        """The same examples in memory of their own."""
        groups = None if self.groups is None else self.groups.copy()
        return Examples(self.inputs.clone(), self.targets.clone(), groups)

    def to(self, device: torch.device | str) -> Examples:
        """The same examples with ``inputs`` and ``targets`` on ``device``; not copied if they are there already."""
        return replace(self, inputs=self.inputs.to(device), targets=self.targets.to(device))


def _as_groups(groups: Any) -> NDArray[np.int64]:
    """Integers are kept, anything else (names) is numbered in sorted order, (N,)."""
    array = np.asarray(groups)
    if array.ndim != 1:
        raise InputError(f"groups must have shape (N,), one group per input, got {array.shape}; reshape them")
    if array.dtype.kind not in "iubUS":
        for row in (i for i, name in enumerate(array) if name is None or name != name):  # NaN is not itself
            raise InputError(
                f"groups must name an owner of every input, got {array[row]} in row {row}; correct or leave out the row"
            )
    if array.dtype.kind == "f" and (array != np.floor(array)).any():
        value = array[array != np.floor(array)][0]
        raise InputError(
            f"groups must be names or whole numbers, got {value}; if these are weights or targets, leave them out"
        )
    try:
        numbers = array if array.dtype.kind in "iu" else np.unique(array, return_inverse=True)[1]
    except TypeError as error:
        raise InputError(f"groups must be of one type, numbers or text: {error}; convert them") from error
    return numbers.astype(np.int64, copy=False)


#: Number of examples that are fetched and transformed at a time, in whole batches, which is faster.
FETCH = 512


def identity(x: Tensor) -> Tensor:
    """``x`` itself."""
    return x


class Batches:
    """Re-iterable ``(x, y)`` mini-batches, copied from `Examples` several at a time and without collation.

    It takes the place of a ``DataLoader`` for data in memory: no workers, no Python per sample, and batches are on the
    device of the examples. Each iteration is a new pass; passes count from 0 and correspond to local epochs.

    Args:
        examples: The data set.
        batch_size: Examples in a batch, >= 1; the last batch of a pass may be short.
        indices: Rows of ``examples`` to use, int64, shape (n,); None for all.
        order: Maps the number of the pass to a permutation of 0..n-1 (int64, on the CPU); None keeps the order.
        transform: Applied to the inputs of a few batches at a time, on their device; its result for an example must not
            depend on the others. Its inputs are still uint8 if the examples are.
        augment: Applied before ``transform`` to the inputs of one batch at a time, with the numbers of the pass and of
            the batch in it, both from 0; None changes nothing.

    Raises:
        InputError: If ``batch_size`` is below 1.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        indices: NDArray[np.int64] | Tensor | None = None,
        order: Callable[[int], Tensor] | None = None,
        transform: Callable[[Tensor], Tensor] = identity,
        augment: Callable[[Tensor, int, int], Tensor] | None = None,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}; 32 is the default")
        self.examples = examples
        self.batch_size = batch_size
        self.indices = None if indices is None else torch.as_tensor(indices)
        self.order = order
        self.transform = transform
        self.augment = augment
        self.num_passes = 0

    @property
    def num_examples(self) -> int:
        """Examples in one pass."""
        return len(self.examples) if self.indices is None else len(self.indices)

    def __len__(self) -> int:
        return -(-self.num_examples // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        number, augment = self.num_passes, self.augment
        rows = self.rows(number)
        self.num_passes += 1
        inputs, targets = self.examples.inputs, self.examples.targets
        span = self.batch_size * (1 if augment else max(1, FETCH // self.batch_size))
        for start in range(0, self.num_examples, span):
            stop = start + span
            if rows is None:  # copies, as a net or a user's step may change its batch in place
                x, y = inputs[start:stop].clone(), targets[start:stop].clone()
            else:  # index_select copies whole rows, which is faster than indexing
                x, y = inputs.index_select(0, rows[start:stop]), targets.index_select(0, rows[start:stop])
            if augment is not None:
                x = augment(x, number, start // self.batch_size)
            yield from zip(self.transform(x).split(self.batch_size), y.split(self.batch_size), strict=True)

    def rows(self, number: int) -> Tensor | None:
        """Rows of a pass in its order, on the examples' device, (n,); None for all rows in their order."""
        rows = self.indices
        if self.order is not None:
            permutation = self.order(number)
            rows = permutation if rows is None else rows[permutation]
        return None if rows is None else rows.to(self.examples.inputs.device)
