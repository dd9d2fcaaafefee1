"""The proximal term of FedProx.

Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020 (arXiv:1812.06127), Section 3.2: client k
minimises ``h_k(w; w_t) = F_k(w) + mu/2 ||w - w_t||^2`` over the trainable parameters, starting from ``w_t``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def proximal_term(parameters: Sequence[Tensor], anchor: Sequence[Tensor], mu: float) -> Tensor:
    """``mu/2 ||w - w_t||^2``, a scalar; exactly 0 for mu = 0."""
    if mu == 0:
        return torch.zeros((), device=anchor[0].device if anchor else None)
    norms = torch._foreach_norm(torch._foreach_sub(list(parameters), list(anchor)))
    return mu / 2 * torch.stack(norms).float().square().sum()


@torch.no_grad()
def add_proximal_gradient(parameters: Sequence[Tensor], anchor: Sequence[Tensor], mu: float) -> None:
    """Add ``mu (w - w_t)``, the gradient of the proximal term, to ``.grad``.

    Called after gradients are unscaled and before the optimizer steps, so that it is exact in the parameters' own
    precision whatever the precision of the backward pass. For mu = 0 nothing is touched: FedAvg, to the bit.
    """
    if mu == 0:
        return
    with_grad = [(p.grad, p, a) for p, a in zip(parameters, anchor, strict=True) if p.grad is not None]
    if not with_grad:
        return
    gradients, moved, fixed = map(list, zip(*with_grad, strict=True))
    torch._foreach_add_(gradients, torch._foreach_sub(moved, fixed), alpha=mu)
