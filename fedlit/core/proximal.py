"""The proximal term of FedProx.

Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020 (arXiv:1812.06127), Section 3.2: client k
minimises ``h_k(w; w_t) = F_k(w) + mu/2 ||w - w_t||^2`` over the trainable parameters, starting from ``w_t``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


@torch.no_grad()
def squared_moves(parameters: Sequence[Tensor], anchor: Sequence[Tensor]) -> list[float]:
    """``||w - w_t||^2`` of each tensor."""
    return squared_norms(torch._foreach_sub(list(parameters), list(anchor)))


def squared_norms(tensors: Sequence[Tensor]) -> list[float]:
    """The squared 2-norm of each tensor."""
    norms = torch._foreach_norm(list(tensors))
    return [norm * norm for norm in torch.stack(norms).tolist()] if norms else []


def proximal_term(squares: Iterable[float], mu: Iterable[float]) -> float:
    """``mu/2 ||w - w_t||^2`` from the squared distance of each tensor and its mu; exactly 0 where mu = 0."""
    return sum(strength / 2 * square for square, strength in zip(squares, mu, strict=True) if strength)


@torch.no_grad()
def add_proximal_gradient(parameters: Sequence[Tensor], anchor: Sequence[Tensor], mu: float) -> None:
    """Add ``mu (w - w_t)``, the gradient of the proximal term, to ``.grad``.

    Called after gradients are unscaled and before the optimizer steps, so that it is exact in the parameters' own
    precision whatever the precision of the backward pass. For mu = 0 it does nothing: this is FedAvg, to the bit.
    Gradients are replaced, not changed in place, because two parameters may share one gradient tensor.

    Args:
        parameters: Those of one client, or stacks of those of K clients, (K, ...).
        anchor: w_t, in the shapes of the network's tensors.
        mu: Strength of the term, at least 0.
    """
    if mu == 0:
        return
    with_grad = [(p.grad, p, a) for p, a in zip(parameters, anchor, strict=True) if p.grad is not None]
    if not with_grad:
        return
    gradients, moved, fixed = map(list, zip(*with_grad, strict=True))
    pulled = torch._foreach_add(gradients, torch._foreach_sub(moved, fixed), alpha=mu)
    for parameter, gradient in zip(moved, pulled, strict=True):
        parameter.grad = gradient
