"""Collects all updates of a round, for averages that have to compare them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from fedlit.core.average import WeightedMean
from fedlit.core.ranks import gather_list, is_distributed
from fedlit.core.records import ClientUpdate, Weights

#: Number of scalars of every client in a chunk.
COLUMN_CHUNK = 32_768


class Collected(WeightedMean):
    """The plain weighted mean, which also keeps this rank's updates."""

    def __init__(self, start: Weights) -> None:
        super().__init__(start)
        self.updates: list[ClientUpdate] = []

    def add(self, update: ClientUpdate) -> None:
        super().add(update)
        self.updates.append(update)

    def columns(self, size: int) -> Iterator[Tensor]:
        """The first ``size`` scalars of the clients of all ranks, ordered by client, in chunks (K, COLUMN_CHUNK).

        Memory holds only one chunk of the other ranks' updates. Every rank has to iterate over all chunks.
        """
        held = gather_list([[update.task.client for update in self.updates]])  # by each rank
        order = torch.tensor([client for clients in held for client in clients]).argsort()
        most = max(map(len, held))
        for start in range(0, size, COLUMN_CHUNK):
            stop = min(start + COLUMN_CHUNK, size)
            mine = torch.zeros(most, stop - start, dtype=self._like.floats.dtype, device=self.device)
            for row, update in zip(mine, self.updates, strict=False):
                row.copy_(update.weights.floats[start:stop])
            parts = [mine]
            if is_distributed():
                parts = [torch.empty_like(mine) for _ in held]
                dist.all_gather(parts, mine)
            rows = [part[: len(clients)] for part, clients in zip(parts, held, strict=True)]
            yield torch.cat(rows)[order.to(mine.device)]
