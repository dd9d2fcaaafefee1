"""Whether a round is shared between processes."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist
from torch import Tensor

K = TypeVar("K")
V = TypeVar("V")


def is_distributed() -> bool:
    """Whether this process is one of several ranks, so that sums have to be gathered."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather_list(mine: list[V]) -> list[V]:
    """What all ranks have, in the order of the ranks."""
    if not is_distributed():
        return mine
    parts: list[list[V]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, mine)
    return [value for part in parts for value in part]


def gather_dict(mine: dict[K, V]) -> dict[K, V]:
    """What all ranks have, each for keys of its own such as its clients."""
    return dict(gather_list(list(mine.items())))


def copy_for_collectives(x: Tensor) -> Tensor:
    """A copy of a tensor on a device that the ranks' collectives work on."""
    return x.to("cuda", copy=True) if dist.get_backend() == "nccl" else x.clone()
