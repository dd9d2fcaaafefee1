"""A rank's share of held-out examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from torch import Tensor

from fedlit.data.examples import Batches, Examples, identity


class Share(Batches):
    """The pieces of a data set that fall to one of several ranks, in turn; no example falls to two.

    A piece is what a network evaluates at once. It is the same for every number of ranks, and so are the bits of its
    logits, which in general depend on how many examples are met together. All ranks have the same number of batches,
    as a network wrapped for several ranks may synchronise in each: where a share has fewer, the last ones are empty.

    Args:
        examples: All of them.
        batch_size: Examples in a batch, a multiple of ``piece`` or fewer than all of a share.
        piece: Examples in a piece, at least 1; the last one may be short.
        rank: Number of this rank, from 0.
        ranks: How many there are; one has all.
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
        largest = int((owners == 0).sum())  # the first rank's share: none has more
        self._num_batches = -(-largest // batch_size)

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from super().__iter__()
        for _ in range(self._num_batches - super().__len__()):
            yield self.transform(self.examples.inputs[:0]), self.examples.targets[:0]
