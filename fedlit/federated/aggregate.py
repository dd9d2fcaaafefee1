"""The average of client models: one running weighted sum, whatever the size of the cohort."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from fedlit.federated.ranks import many_ranks
from fedlit.federated.records import ClientUpdate, Weights
from fedlit.native import call, library
from fedlit.native.versions import PYTORCH, version

#: Scalars summed at a time on one thread: the operands of a step then fit a core's cache.
CHUNK = 16_384
#: And on several threads, of which PyTorch uses a second one from 32,768 scalars on.
CHUNK_OF_MANY = 65_536


class WeightedMean:
    """Running weighted mean of flat states, in one model's worth of memory.

    Floating-point entries are averaged; integer entries take the maximum. The sum is kept as an unevaluated pair
    ``high + low`` of float64 vectors (Knuth's error-free TwoSum; Ogita, Rump and Oishi 2005, Algorithm 3.1), some 106
    bits, so the mean does not depend on the order in which clients arrive or on how they are dealt to ranks.

    Args:
        like: A state of the shape, type and device of those to come. The mean of nothing is ``like`` itself.
    """

    def __init__(self, like: Weights) -> None:
        self._like = like
        # MPS has no float64: sum on the CPU there.
        device = torch.device("cpu") if like.floats.device.type == "mps" else like.floats.device
        self._high = torch.zeros(like.floats.shape, dtype=torch.float64, device=device)
        self._low = torch.zeros_like(self._high)
        self._counts = like.counts.clone()
        self._totals = {"weight": 0.0, "count": 0.0}

    @property
    def device(self) -> torch.device:
        """Where sums are made: that of the states, or the CPU where theirs has no float64."""
        return self._high.device

    @property
    def weight(self) -> float:
        """Sum of the weights."""
        return self._totals["weight"]

    @property
    def count(self) -> float:
        """Number of updates."""
        return self._totals["count"]

    def add(self, update: ClientUpdate) -> None:
        """Add one client's update, with the weight of its task."""
        self.add_state(update.weights, update.task.weight)

    def add_state(self, weights: Weights, weight: float) -> None:
        """Add a state with a weight, > 0."""
        self._add(weights.floats.to(self._high.device), weight)
        torch.maximum(self._counts, weights.counts, out=self._counts)
        self._totals["weight"] += weight
        self._totals["count"] += 1

    def reduce(self) -> None:
        """Sum over all ranks, in the order of the ranks; nothing to do in a single process."""
        if not many_ranks():
            return
        totals = torch.tensor(list(self._totals.values()), dtype=torch.float64, device=self._high.device)
        mine = (self._high, self._low, totals)
        self._high, self._low, sums = (torch.zeros_like(part) for part in mine)
        for rank in range(dist.get_world_size()):
            high, low, totals = (part.clone() for part in mine)
            for part in (high, low, totals):
                dist.broadcast(part, src=rank)
            self._add(high)
            self._add(low)
            sums += totals
        self._totals = dict(zip(self._totals, sums.tolist(), strict=True))
        if self._counts.numel():
            dist.all_reduce(self._counts, op=dist.ReduceOp.MAX)

    def mean(self) -> Weights:
        """The weighted mean, in the type and on the device of ``like``."""
        if self.weight == 0:
            return self._like
        return Weights(((self._high + self._low) / self.weight).to(self._like.floats), self._counts)

    def _add(self, x: Tensor, weight: float = 1.0) -> None:
        compiled = library("exact_sum")
        plain = x.dtype == torch.float32 and x.device.type == "cpu" and x.is_contiguous()
        if compiled and plain and version() != PYTORCH:
            call(compiled.add_exactly, len(x), x, float(weight), self._high, self._low)
            return
        size = CHUNK if torch.get_num_threads() == 1 else CHUNK_OF_MANY
        for part, high, low in zip(x.split(size), self._high.split(size), self._low.split(size), strict=True):
            term = part.to(torch.float64, copy=True).mul_(weight)  # (size,); exact for float32 and weights below 2**29
            total = high + term
            rounded = total - high  # what of the term arrived in the total
            term -= rounded
            low += term.add_(high - (total - rounded))
            high.copy_(total)
