"""Communication between the ranks of a run."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist
from torch import Tensor

K = TypeVar("K")
V = TypeVar("V")


def is_distributed() -> bool:
    """Whether this process is one of several ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather_list(mine: list[V]) -> list[V]:
    """Concatenate the lists of all ranks, in the order of the ranks."""
    if not is_distributed():
        return mine
    parts: list[list[V]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, mine)
    return [value for part in parts for value in part]


def gather_dict(mine: dict[K, V]) -> dict[K, V]:
    """Merge the dictionaries of all ranks, whose keys differ, such as each rank's clients."""
    return dict(gather_list(list(mine.items())))


def copy_for_collectives(x: Tensor) -> Tensor:
    """A copy of a tensor on a device that the process group's backend supports."""
    return x.to("cuda", copy=True) if dist.get_backend() == "nccl" else x.clone()
