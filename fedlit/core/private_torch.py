"""The private parts of PyTorch that fedlit uses, under plain names.

Tested with torch 2.14.1, 2.11 and 2.4.1. Each part says why there is no public way. If another version lacks one,
importing or calling it raises an error; nothing fails silently. The functions ``torch._foreach_*`` are called directly:
PyTorch documents them, and its own optimizers use them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.nn.modules import module as all_modules
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._python_dispatch import _get_current_dispatch_mode

T = TypeVar("T")

#: The base of BatchNorm in all dimensions, and of classes that other packages derive from it; there is no public one.
BatchNorm = _BatchNorm

#: The base of all dropout layers; there is no public one.
Dropout = _DropoutNd

#: A kernel as ``make_fx`` records it; the type has no public name.
Kernel = OpOverload

#: A view that autograd does not track; functionalized code calls it in place of ``view``.
untracked_view = torch.ops.aten._unsafe_view.default


def mutates_inputs(kernel: Kernel) -> bool:
    """Whether a kernel writes to its inputs; only its private schema tells."""
    return bool(kernel._schema.is_mutable)


def is_transformed() -> bool:
    """Whether a transform such as ``vmap`` or ``grad``, ``make_fx``, or a FLOP counter is active."""
    return torch._C._functorch.peek_interpreter_stack() is not None or _get_current_dispatch_mode() is not None


def has_modes() -> bool:
    """Whether a mode that intercepts PyTorch's operations or functions is active."""
    return bool(torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack())


def has_hooks(module: nn.Module) -> bool:
    """Whether a module has forward or backward hooks; they can be registered publicly, but not listed."""
    forward, backward = module._forward_hooks or module._forward_pre_hooks, module._backward_hooks
    return bool(forward or backward or module._backward_pre_hooks)


def has_gradient_hooks(parameter: nn.Parameter) -> bool:
    """Whether a parameter has hooks that are called with its gradient; copies of it do not have them."""
    return bool(parameter._backward_hooks or parameter._post_accumulate_grad_hooks)


def has_global_hooks() -> bool:
    """Whether hooks are registered for the forward or backward passes of all modules."""
    forward = all_modules._global_forward_hooks or all_modules._global_forward_pre_hooks
    return bool(forward or all_modules._global_backward_hooks or all_modules._global_backward_pre_hooks)


def own_buffers(module: nn.Module) -> dict[str, Tensor | None]:
    """A module's buffers without its submodules', including those that are None, which ``named_buffers`` leaves out."""
    return module._buffers


#: The name under which a compiled module holds the original one. The class of compiled modules is not public.
_ORIGINAL = "_orig_mod"


def compiled_parts(net: nn.Module) -> list[str]:
    """Names of the submodules that ``torch.compile`` wraps; the empty name is the net itself."""
    names = (name.rpartition(".") for name, _ in net.named_modules())
    return [part for part, _, own in names if own == _ORIGINAL]


def compiled_in_place(net: nn.Module) -> list[str]:
    """Names of the submodules whose method ``compile`` was called; no public attribute tells."""
    return [name for name, module in net.named_modules() if module._compiled_call_impl is not None]


def original(module: T) -> T:
    """The module that ``torch.compile`` was given; any other module itself."""
    return getattr(module, _ORIGINAL, module)


@contextmanager
def uncompiled(net: nn.Module) -> Iterator[nn.Module]:
    """A net as it was before ``torch.compile``, also in its parts; the parts are compiled again after the block."""
    root = original(net)
    parts = [
        (parent, name, part)
        for parent in root.modules()
        for name, part in parent.named_children()
        if original(part) is not part
    ]
    for parent, name, part in parts:
        setattr(parent, name, original(part))
    try:
        yield root
    finally:
        for parent, name, part in parts:
            setattr(parent, name, part)


def uncompiled_names(state: Iterable[str]) -> set[str]:
    """The names that a net's tensors would have without ``torch.compile``."""
    return {name.replace(f"{_ORIGINAL}.", "") for name in state}


def compile_in_process() -> None:
    """Let a forked process compile alone; its parent's compile workers would never answer it."""
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # read when the settings are imported
    if settings := sys.modules.get("torch._inductor.config"):
        settings.compile_threads = 1  # type: ignore[attr-defined]


def write_summary(writer: Any, summary: Any) -> None:
    """Write a summary to the writer's own file; ``SummaryWriter.add_hparams`` would open another, in a subfolder."""
    writer._get_file_writer().add_summary(summary)
