"""Common functions of operations with loops in C: when they may run, how to call them, and second gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fedlit.core.private_torch import is_transformed
from fedlit.native import call, library
from fedlit.native.versions import PYTORCH, version

#: The number of channels must be a multiple of this, for which all versions of the loops have whole vectors.
GROUP = 16


def may_run(*tensors: Tensor) -> bool:
    """Whether the loops can run: they are compiled, and all tensors are plain float32 on a CPU, without tracers."""
    return (
        version() != PYTORCH
        and all(type(t) in (Tensor, torch.nn.Parameter) and t.numel() for t in tensors)
        and all(t.device.type == "cpu" and t.dtype == torch.float32 and t.layout == torch.strided for t in tensors)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not is_transformed()
    )


def call_loop(name: str, *arguments: int | float | Tensor) -> None:
    """Call a loop of ``native/conv_pool.c`` in this process's version."""
    call(getattr(library("conv_pool"), f"{name}_{version()}"), *arguments)


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """An uninitialised tensor (B, C, H, W) in channels-last format."""
    return torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)


def channels_last(tensor: Tensor) -> Tensor:
    """The tensor (B, C, H, W) in channels-last format, detached."""
    return tensor.detach().contiguous(memory_format=torch.channels_last)


def gradients(
    reference: Callable[..., Tensor], inputs: Sequence[Tensor], wanted: Sequence[bool], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradients of ``reference``, which are differentiable; None for inputs that are not ``wanted``."""
    of = [tensor for tensor, is_wanted in zip(inputs, wanted, strict=True) if is_wanted]
    found = iter(torch.autograd.grad(reference(*inputs), of, grad, create_graph=True))
    return tuple(next(found) if is_wanted else None for is_wanted in wanted)
