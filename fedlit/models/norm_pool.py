"""Group norm, ReLU and max pool as one operation, which writes only the pooled outputs."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from fedlit.core.private_torch import has_global_hooks, has_hooks
from fedlit.models.loops import GROUP, call_loop, channels_last, empty, gradients, may_run


def norm_pool(x: Tensor, norm: nn.Module) -> Tensor:
    """Norm -> ReLU -> 2x2 max pool: (B, C, H, W) -> (B, C, H // 2, W // 2).

    The same as ``F.max_pool2d(norm(x).relu(), 2)``, to rounding. PyTorch runs one operation at a time and writes the
    result of each. If ``norm`` is a ``GroupNorm`` without hooks, loops in C read an image while it is in the cache and
    write only the pooled outputs: on CPUs, in float32, on one thread, if the channels are a multiple of ``GROUP``
    (``python -m tests.benchmarks.native``). In all other cases PyTorch's kernels run.

    Args:
        x: Inputs.
        norm: A module that keeps the shape.
    """
    if type(norm) is nn.GroupNorm and is_unchanged(norm) and _is_faster(x, norm):
        weight = x.new_ones(norm.num_channels) if norm.weight is None else norm.weight
        bias = x.new_zeros(norm.num_channels) if norm.bias is None else norm.bias
        if may_run(x, weight, bias):
            return _NormPool.apply(x, weight, bias, norm.num_groups, norm.eps)  # type: ignore[no-any-return]
    # ReLU commutes with the maximum, and takes a quarter of the work after it.
    return F.max_pool2d(norm(x), 2).relu()


def is_unchanged(module: nn.Module) -> bool:
    """Whether a call of the module runs the ``forward`` of its class and nothing else."""
    return not has_hooks(module) and not has_global_hooks() and "forward" not in vars(module)


def reference(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
    """The loops' computation in PyTorch's operations."""
    return F.max_pool2d(F.group_norm(x, groups, weight, bias, eps), 2).relu()


def _is_faster(x: Tensor, norm: nn.GroupNorm) -> bool:
    """Whether the loops support these shapes, and PyTorch uses one thread as they do."""
    return (
        x.dim() == 4
        and x.shape[1] == norm.num_channels
        and norm.num_channels % GROUP == 0
        and min(x.shape[2:]) > 1
        and torch.get_num_threads() == 1
    )


class _NormPool(Function):
    """The operation and its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        images, channels, height, width = x.shape
        pooled = empty(images, channels, height // 2, width // 2)
        where = empty(*pooled.shape, dtype=torch.uint8)
        mean, rstd = torch.empty(images, groups), torch.empty(images, groups)
        work, given = torch.empty(4, channels), (channels_last(x), weight.contiguous(), bias.contiguous())
        size = images, height, width, channels, groups
        call_loop("norm_relu_pool", *size, float(eps), *given, work, mean, rstd, pooled, where)
        ctx.save_for_backward(x, weight, bias, mean, rstd, where)
        ctx.groups, ctx.eps = groups, eps
        return pooled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, rstd, where = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a gradient of this gradient
            again = partial(reference, groups=ctx.groups, eps=ctx.eps)
            return *gradients(again, (x, weight, bias), ctx.needs_input_grad[:3], grad), None, None
        images, channels, height, width = x.shape
        of_x, of_weight, of_bias = empty(*x.shape), torch.zeros(channels), torch.zeros(channels)
        work, given = torch.empty(5, channels), (channels_last(grad), where, channels_last(x), weight.contiguous())
        size = images, height, width, channels, ctx.groups
        call_loop("grad_of_norm", *size, *given, mean, rstd, work, of_weight, of_bias, of_x)
        return of_x, of_weight, of_bias, None, None
