"""Small operations on one thread of a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

#: Number of elements that one core processes in about a millisecond.
SMALL = 2**20


@contextmanager
def one_thread_if_small(tensor: Tensor) -> Iterator[None]:
    """Let PyTorch compute on one thread if the tensor is on the CPU and has at most ``SMALL`` elements.

    At the end of each operation all threads wait for the slowest. That takes tens of milliseconds if other processes
    use the cores, and an operation that one core finishes in a millisecond gains nothing from more threads. Use it only
    for operations that give the same bits on any number of threads, such as elementwise ones.
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
