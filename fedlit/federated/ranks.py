"""Whether a round is shared between processes."""

from __future__ import annotations

import torch.distributed as dist


def many_ranks() -> bool:
    """Whether this process is one of several ranks, so that sums have to be gathered."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
