"""A rank's share of held-out examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from torch import Tensor

from fedlit.data.examples import Batches, Examples, identity


class Share(Batches):
    """One rank's share of a data set: pieces are assigned to ranks in turn, and each example to exactly one rank.

    A piece is evaluated at once. Pieces are the same for any number of ranks, and so are the bits of their logits,
    which in general depend on the number of examples that are evaluated together. All ranks have the same number of
    batches, as a network wrapped for several ranks may synchronise in each; a smaller share ends with empty batches.

    Args:
        examples: The whole data set.
        batch_size: Examples in a batch, a multiple of ``piece`` unless one batch holds the whole share.
        piece: Examples in a piece, at least 1; the last piece may be short.
        rank: Number of this rank, from 0.
        ranks: Number of ranks; a single rank has all examples.
        transform: As for ``Batches``.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        piece: int,
        rank: int = 0,
        ranks: int = 1,
        transform: Callable[[Tensor], Tensor] = identity,
    ) -> None:
        owners = np.arange(len(examples)) // piece % ranks
        super().__init__(examples, batch_size, np.flatnonzero(owners == rank) if ranks > 1 else None, None, transform)
        largest = int((owners == 0).sum())  # the share of rank 0 is the largest
        self._num_batches = -(-largest // batch_size)

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from super().__iter__()
        for _ in range(self._num_batches - super().__len__()):
            yield self.transform(self.examples.inputs[:0]), self.examples.targets[:0]
