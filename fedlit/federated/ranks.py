"""Whether a round is shared between processes."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist

K = TypeVar("K")
V = TypeVar("V")


def many_ranks() -> bool:
    """Whether this process is one of several ranks, so that sums have to be gathered."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gathered(mine: dict[K, V]) -> dict[K, V]:
    """What all ranks have, each for keys of its own such as its clients."""
    if not many_ranks():
        return mine
    parts: list[dict[K, V]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, mine)
    return {key: value for part in parts for key, value in part.items()}
