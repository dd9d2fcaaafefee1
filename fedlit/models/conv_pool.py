"""Convolution, ReLU and max pool as one operation, which takes three fifths of their time on a CPU core."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from fedlit.models.loops import GROUP, call_loop, channels_last, empty, gradients, may_run

#: The most threads with which grey images train faster here. The loops use one thread, PyTorch's kernels use all.
THREADS = 2


def conv_pool(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """3x3 convolution with padding 1 -> ReLU -> 2x2 max pool: (B, D, H, W) -> (B, C, H // 2, W // 2).

    The same as ``F.max_pool2d(F.conv2d(x, weight, bias, padding=1).relu(), 2)``, to rounding. A max pool passes the
    gradient of an output to one of four places, so three quarters of the products in the gradients of the convolution
    are zero. PyTorch, which runs one operation at a time, computes them all; the loops in C leave them out. They run on
    CPUs, in float32, where they were measured to be faster: on the processors in ``MEASURED`` of
    ``fedlit/native/versions.py``, for shapes and numbers of threads by ``is_faster``. In all other cases PyTorch's
    kernels run.

    Args:
        x: Inputs.
        weight: (C, D, 3, 3).
        bias: (C,).
    """
    if _fits(x, weight, bias) and may_run(x, weight, bias) and is_faster(x, weight, bias):
        return _ConvPool.apply(x, weight, bias)  # type: ignore[no-any-return]
    return reference(x, weight, bias)


def reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``conv_pool`` in PyTorch's operations."""
    # ReLU is monotone, so it commutes with the maximum: pooling first gives the same with a quarter of the work.
    return F.max_pool2d(F.conv2d(x, weight, bias, padding=1), 2).relu()


def _fits(x: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Whether the shapes are those of ``conv_pool``."""
    return x.dim() == 4 and bias.dim() == 1 and weight.shape == (len(bias), x.shape[1], 3, 3) and min(x.shape[2:]) > 1


def is_faster(x: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Whether the loops were measured to be faster for these tensors (``python -m tests.benchmarks.native --shapes``).

    The rule is the same for every version of the loops, so that results do not depend on the processor. It requires at
    least two images, output channels that are a multiple of ``GROUP``, and one of these cases:

    ===========================  =========================  =========================
    channels of x                tensors with a gradient    threads
    ===========================  =========================  =========================
    1                            weight and bias            at most ``THREADS``
    1                            none                       1
    a multiple of ``GROUP``      x, weight and bias         1
    ===========================  =========================  =========================
    """
    images, depth = x.shape[:2]
    if images == 1 or len(weight) % GROUP:
        return False
    wanted = tuple(torch.is_grad_enabled() and tensor.requires_grad for tensor in (x, weight, bias))
    if depth == 1 and any(wanted):
        return wanted == (False, True, True) and torch.get_num_threads() <= THREADS
    return (depth == 1 or (depth % GROUP == 0 and all(wanted))) and torch.get_num_threads() == 1


class _ConvPool(Function):
    """The operation and its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        (images, depth, height, width), channels = x.shape, len(weight)
        pooled = empty(images, channels, height // 2, width // 2)
        where = empty(*pooled.shape, dtype=torch.uint8)
        size = images, height, width, channels
        if depth == 1:
            taps = weight.reshape(channels, 9).t().contiguous()
            padded = torch.zeros(height + 2, width + 2)
            call_loop("grey_conv_relu_pool", *size, channels_last(x), taps, bias.contiguous(), padded, pooled, where)
        else:
            call_loop("relu_pool", *size, channels_last(F.conv2d(x, weight, bias, padding=1)), pooled, where)
        ctx.save_for_backward(x, weight, bias, where)
        return pooled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, where = ctx.saved_tensors
        wanted: tuple[bool, ...] = ctx.needs_input_grad
        if torch.is_grad_enabled():  # for a gradient of this gradient
            return gradients(reference, (x, weight, bias), wanted, grad)
        grad, x = channels_last(grad), channels_last(x)
        return _of_grey(grad, where, x) if x.shape[1] == 1 else _of_many(grad, where, x, weight)


def _of_many(grad: Tensor, where: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients for many input channels, without the products that are zero."""
    images, depth, height, width = x.shape
    channels = len(weight)
    size = images, height, width, channels, depth
    padded = torch.zeros((height + 2) * (width + 2) * depth)
    longest = max(height * width, 5 * channels)
    lists = torch.empty(longest), torch.empty(longest, dtype=torch.int64)
    of_weight = torch.zeros_like(weight, memory_format=torch.channels_last)
    of_bias = torch.zeros(channels)
    call_loop("grad_of_weight", *size, grad, where, x, padded, *lists, of_weight, of_bias)
    of_x = torch.empty_like(x)
    call_loop("grad_of_input", *size, grad, where, channels_last(weight), padded, *lists, of_x)
    return of_x, of_weight, of_bias


def _of_grey(grad: Tensor, where: Tensor, x: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients for images of one channel; the gradient of the images is not needed."""
    images, _, height, width = x.shape
    channels = grad.shape[1]
    sums = torch.zeros(10, channels)
    padded = torch.zeros(height + 2, width + 2)
    call_loop("grey_grad_of_weight", images, height, width, channels, grad, where, x, padded, sums)
    return None, sums[:9].t().reshape(channels, 1, 3, 3), sums[9]
