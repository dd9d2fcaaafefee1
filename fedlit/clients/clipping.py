"""Gradients of clients' steps, scaled down where their norm is above a limit (Pascanu et al. 2013, arXiv:1211.5063)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedlit.core.errors import InputError
from fedlit.core.limits import FLOAT32_MAX

EPSILON = 1e-6  # as torch.nn.utils.clip_grad_norm_ has it, which clips one client at a time


def check_limit(where: str, limit: float | None) -> float | None:
    """A limit that can be clipped to; none is no limit.

    Raises:
        InputError: Where it is not a finite number above 0.
    """
    if limit is not None and not 0 < limit <= FLOAT32_MAX:
        raise InputError(f"{where} must be a finite number > 0, got {limit}; leave it out for no limit")
    return limit


def clip_each(parameters: Sequence[Tensor], limit: float) -> None:
    """Scale the gradients of K clients down, each client's to a norm of ``limit`` over all of its tensors.

    As ``torch.nn.utils.clip_grad_norm_`` has it for one client.

    Args:
        parameters: Stacks (K, ...), whose ``.grad`` is replaced.
        limit: The greatest norm, more than 0.
    """
    gradients = {p: p.grad for p in parameters if p.grad is not None}
    norms = torch.stack([gradient.reshape(len(gradient), -1).norm(dim=1) for gradient in gradients.values()])
    factors = (limit / (norms.norm(dim=0) + EPSILON)).clamp(max=1.0)  # (K,)
    for parameter, gradient in gradients.items():
        parameter.grad = gradient * factors.view(-1, *[1] * (gradient.dim() - 1))
