"""Labelled examples in memory, and mini-batches sliced from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

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
        groups: Natural owner of each input (its writer), int64, shape (N,), always on the host; None where unknown.

    Raises:
        InputError: If the lengths differ or a type is not one of these.
    """

    inputs: Tensor
    targets: Tensor
    groups: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.inputs.dtype not in (torch.uint8, torch.int64, torch.float32):
            raise InputError(f"inputs must be uint8, int64 or float32, got {self.inputs.dtype}; convert them first")
        if self.targets.dtype != torch.int64 or self.targets.ndim != 1:
            raise InputError(
                f"targets must be int64 class numbers of shape (N,), got {self.targets.dtype} of shape "
                f"{tuple(self.targets.shape)}; convert them first"
            )
        if len(self.inputs) != len(self.targets):
            raise InputError(f"{len(self.inputs)} inputs but {len(self.targets)} targets; give one target an input")
        if self.groups is not None and len(self.groups) != len(self.targets):
            raise InputError(f"{len(self.targets)} targets but {len(self.groups)} groups; give one group an input")

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: NDArray[np.int64]) -> Examples:
        """The examples at ``rows``, copied."""
        index = torch.from_numpy(rows).to(self.inputs.device)
        return Examples(self.inputs[index], self.targets[index], None if self.groups is None else self.groups[rows])

    def to(self, device: torch.device | str) -> Examples:
        """The same examples with ``inputs`` and ``targets`` on ``device``; no copy where they are there already."""
        return replace(self, inputs=self.inputs.to(device), targets=self.targets.to(device))


#: Examples fetched and transformed at a time, in whole batches: a few large steps instead of many small ones.
FETCH = 512


def identity(x: Tensor) -> Tensor:
    """``x`` itself."""
    return x


class Batches:
    """Re-iterable ``(x, y)`` mini-batches, sliced from `Examples` with one indexing for several and no collation.

    A stand-in for a ``DataLoader`` where the data is in memory: no workers, no Python per sample, and the batches are
    on the device of the examples. Each iteration is the next pass, counted from 0 when its first batch is asked for,
    so an object's passes are the local epochs of whoever holds it.

    Args:
        examples: Where the batches come from.
        batch_size: Examples in a batch, >= 1; the last batch of a pass may be short.
        indices: Rows of ``examples`` to use, int64, shape (n,); None for all.
        order: Maps the number of the pass to a permutation of 0..n-1 (int64, on the CPU); None keeps the order.
        transform: Applied to the inputs of a few batches at a time, on their device, so sample by sample: what it does
            to one must not depend on the others. uint8 stays uint8 up to here.
        augment: Applied before it to the inputs of one batch at a time, with the numbers of the pass and of the batch
            in it, from 0; None changes nothing.

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
            if rows is None:
                x, y = inputs[start:stop], targets[start:stop]
            else:  # rows are copied whole, which by inputs[rows] they are not
                x, y = inputs.index_select(0, rows[start:stop]), targets.index_select(0, rows[start:stop])
            if augment is not None:
                x = augment(x.clone(), number, start // self.batch_size)
            yield from zip(self.transform(x).split(self.batch_size), y.split(self.batch_size), strict=True)

    def rows(self, number: int) -> Tensor | None:
        """Rows of a pass in its order, on the examples' device, (n,); None is all of them as they stand."""
        rows = self.indices
        if self.order is not None:
            permutation = self.order(number)
            rows = permutation if rows is None else rows[permutation]
        return None if rows is None else rows.to(self.examples.inputs.device)
