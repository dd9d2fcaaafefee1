"""Small steps on one thread of a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

#: Elements of which one core changes each in about a millisecond.
SMALL = 2**20


@contextmanager
def one_thread_if_small(tensor: Tensor) -> Iterator[None]:
    """Let PyTorch compute on one thread where the tensor is on the CPU and has at most ``SMALL`` elements.

    All threads wait at the end of each operation until the last has done its part. Where other processes have the cores
    that takes tens of milliseconds, and for what one core does in one it gains nothing anywhere. For steps that give
    the same bits on any number of threads, such as element by element.
    """
    threads = torch.get_num_threads()
    if threads == 1 or tensor.device.type != "cpu" or tensor.numel() > SMALL:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
