"""Clipping of the clients' gradients by their norm (Pascanu et al. 2013, arXiv:1211.5063)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedlit.core.errors import InputError
from fedlit.core.limits import FLOAT32_MAX

EPSILON = 1e-6  # the same as in torch.nn.utils.clip_grad_norm_, which clips one client at a time


def check_limit(where: str, limit: float | None) -> float | None:
    """Return a limit after checking it; None stands for no limit.

    Raises:
        InputError: If the limit is not a finite number > 0.
    """
    if limit is not None and not 0 < limit <= FLOAT32_MAX:
        raise InputError(f"{where} must be a finite number > 0, got {limit}; leave it out for no limit")
    return limit


def clip_each(parameters: Sequence[Tensor], limit: float) -> None:
    """Clip the gradients of K clients, each client's to a norm of at most ``limit`` over all of its tensors.

    The same as ``torch.nn.utils.clip_grad_norm_`` for each client.

    Args:
        parameters: Stacks (K, ...), whose ``.grad`` is replaced.
        limit: The greatest norm, more than 0.
    """
    gradients = {p: p.grad for p in parameters if p.grad is not None}
    norms = torch.stack([gradient.reshape(len(gradient), -1).norm(dim=1) for gradient in gradients.values()])
    factors = (limit / (norms.norm(dim=0) + EPSILON)).clamp(max=1.0)  # (K,)
    for parameter, gradient in gradients.items():
        parameter.grad = gradient * factors.view(-1, *[1] * (gradient.dim() - 1))
