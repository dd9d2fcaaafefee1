"""Sums that depend neither on the order of their terms nor on how the terms are distributed over ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from fedlit.core.ranks import copy_for_collectives, is_distributed
from fedlit.native import call, library
from fedlit.native.versions import PYTORCH, version

#: Scalars added at a time on one thread, so that the operands of a step fit into a core's cache.
CHUNK = 16_384
#: The same on several threads; PyTorch uses a second thread from 32,768 scalars on.
THREADED_CHUNK = 65_536


def exact_sum(terms: Sequence[float]) -> float:
    """The sum rounded once (``math.fsum``, Shewchuk 1997); the ordinary sum if it is not finite."""
    try:
        return math.fsum(terms)
    except (OverflowError, ValueError):  # beyond float64, or infinities of both signs
        return float(sum(terms))


def dot(x: Tensor, y: Tensor) -> float:
    """The scalar product of two vectors (n,) in float64, the same for every number of threads."""
    pairs = zip(x.split(CHUNK), y.split(CHUNK), strict=True)
    return exact_sum(torch.stack([(a.double() * b.double()).sum() for a, b in pairs]).tolist())


class ExactSum:
    """A running sum of weighted vectors, kept as an unevaluated pair ``high + low`` of float64 vectors.

    With Knuth's error-free TwoSum (Ogita, Rump and Oishi 2005, Algorithm 3.1) it has about 106 bits, so that the sum,
    once rounded, does not depend on the order of its terms.

    Args:
        size: Length of the vectors.
        device: The device of the sum; the CPU takes the place of MPS, which has no float64.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        where = torch.device("cpu") if device.type == "mps" else device
        self.high = torch.zeros(size, dtype=torch.float64, device=where)
        self.low = torch.zeros_like(self.high)

    def add(self, x: Tensor, weight: float = 1.0) -> None:
        """Add ``weight`` times a vector (size,) of any type and device; exact for float32 and weights below 2**29."""
        x = x.to(self.high.device)
        compiled = library("exact_sum")
        plain = x.dtype == torch.float32 and x.device.type == "cpu" and x.is_contiguous()
        if compiled and plain and version() != PYTORCH:
            call(compiled.add_exactly, len(x), x, float(weight), self.high, self.low)
            return
        size = CHUNK if torch.get_num_threads() == 1 else THREADED_CHUNK
        for part, high, low in zip(x.split(size), self.high.split(size), self.low.split(size), strict=True):
            term = part.to(torch.float64, copy=True).mul_(weight)  # (size,)
            total = high + term
            rounded = total - high  # the part of the term that the total holds
            term -= rounded
            low += term.add_(high - (total - rounded))
            high.copy_(total)

    def reduce(self) -> None:
        """Sum over all ranks, in the order of the ranks; does nothing in a single process."""
        if not is_distributed() or not self.high.numel():
            return
        mine = self.high, self.low
        self.high, self.low = torch.zeros_like(self.high), torch.zeros_like(self.low)
        for rank in range(dist.get_world_size()):
            for part in mine:
                theirs = copy_for_collectives(part)
                dist.broadcast(theirs, src=rank)
                self.add(theirs)

    def value(self) -> Tensor:
        """The sum, rounded to float64, (size,)."""
        return self.high + self.low

    def mean(self, total: float, like: Tensor) -> Tensor:
        """The sum over ``total``, in the type and on the device of ``like``, (size,); no other memory of that size."""
        mean = torch.empty_like(like)
        for part, high, low in zip(*(x.split(THREADED_CHUNK) for x in (mean, self.high, self.low)), strict=True):
            part.copy_(((high + low) / total).to(part.dtype))
        return mean
