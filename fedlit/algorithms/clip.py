"""Clips updates to a norm."""

from __future__ import annotations

import torch
from torch import Tensor

from fedlit.algorithms.algorithm import Algorithm, Facts
from fedlit.core.errors import InputError
from fedlit.core.records import Broadcast, ClientUpdate


class Clip(Algorithm):
    """Clips the clients' updates; each w_k - w_t over the trainable parameters is scaled down to a norm.

    In a chain it comes before the algorithm that averages: ``chain(Clip(0.5), Krum(2))``. Buffers, and the vectors that
    clients keep, are not changed.

    Args:
        norm: The greatest norm of an update, more than 0; .inf does not clip.
    """

    def __init__(self, norm: float) -> None:
        if not norm > 0:
            raise InputError(f"norm must be > 0, got {norm}; .inf does not clip")
        self.norm = norm

    def prepare(self, facts: Facts) -> None:
        super().prepare(facts)
        before = facts.before(self)
        if average := next((part for part in before if part.averages), None):
            raise InputError(
                f"Clip changes single updates, but comes after {average.name}, which averages them; put Clip before it"
            )

    def transform(self, sent: Broadcast, update: ClientUpdate) -> ClientUpdate:
        size, floats = self.facts.layout.num_trainable, update.weights.floats
        short = clipped(floats[:size], sent.weights.floats[:size], self.norm)
        whole = torch.cat([short, floats[size:].to(short)])
        return update._replace(weights=update.weights._replace(floats=whole))


def norm_of(state: Tensor, start: Tensor) -> float:
    """||state - start||, of two (T,)."""
    return float((state.double() - start.double()).norm())


def clipped(state: Tensor, start: Tensor, limit: float) -> Tensor:
    """The point nearest to ``state`` within a distance of ``limit`` from ``start``; all (T,)."""
    norm = norm_of(state, start)
    if norm <= limit:
        return state
    return start.double().lerp(state.double(), limit / norm)
