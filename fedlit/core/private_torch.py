"""What fedlit uses of PyTorch that is not public, by plain names.

Tested with torch 2.14.1, 2.11 and 2.4.1. Each part says why there is no public way. Where another version lacks one, it
fails as it is imported or called: none of them passes in silence. The functions ``torch._foreach_*`` are named where
they are used: PyTorch documents the family, and its own optimizers are made of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.nn.modules import module as all_modules
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._python_dispatch import _get_current_dispatch_mode

T = TypeVar("T")

#: The base of BatchNorm in all dimensions and of what other packages derive from it; the public ones share no other.
BatchNorm = _BatchNorm

#: The base of all layers of dropout; they share no public one.
Dropout = _DropoutNd

#: A kernel as ``make_fx`` records it; the type has no public name.
Kernel = OpOverload

#: A view that autograd does not track, which functionalized code has in place of ``view``.
untracked_view = torch.ops.aten._unsafe_view.default


def mutates_inputs(kernel: Kernel) -> bool:
    """Whether a kernel writes to what it is given; only its schema says so."""
    return bool(kernel._schema.is_mutable)


def is_transformed() -> bool:
    """Whether a call now is seen by ``vmap``, ``grad`` and their kin, by ``make_fx``, or by a counter of FLOPs."""
    return torch._C._functorch.peek_interpreter_stack() is not None or _get_current_dispatch_mode() is not None


def has_modes() -> bool:
    """Whether a mode of PyTorch's sees every operation or function that is called now."""
    return bool(torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack())


def has_hooks(module: nn.Module) -> bool:
    """Whether a module has hooks on its passes, forward or backward, which it can be given and not be asked for."""
    forward, backward = module._forward_hooks or module._forward_pre_hooks, module._backward_hooks
    return bool(forward or backward or module._backward_pre_hooks)


def has_global_hooks() -> bool:
    """Whether the passes of all modules have hooks."""
    forward = all_modules._global_forward_hooks or all_modules._global_forward_pre_hooks
    return bool(forward or all_modules._global_backward_hooks or all_modules._global_backward_pre_hooks)


def own_buffers(module: nn.Module) -> dict[str, Tensor | None]:
    """A module's buffers without those of its parts, also names that hold none, which ``named_buffers`` leaves out."""
    return module._buffers


#: What ``torch.compile`` calls the net that it was given, as a part of the compiled one. Its class has no public name.
_ORIGINAL = "_orig_mod"


def compiled_parts(net: nn.Module) -> list[str]:
    """Names of the parts that ``torch.compile`` made; the empty name is the net itself."""
    names = (name.rpartition(".") for name, _ in net.named_modules())
    return [part for part, _, own in names if own == _ORIGINAL]


def compiled_in_place(net: nn.Module) -> list[str]:
    """Names of the parts whose method ``compile`` was called, in place, of which there is no public sign."""
    return [name for name, module in net.named_modules() if module._compiled_call_impl is not None]


def original(module: T) -> T:
    """What ``torch.compile`` was given; of anything else, itself."""
    return getattr(module, _ORIGINAL, module)


def uncompiled_names(state: Iterable[str]) -> set[str]:
    """The names that the tensors of a net's state have where no part of it is compiled."""
    return {name.replace(f"{_ORIGINAL}.", "") for name in state}


def compile_in_process() -> None:
    """Let this process, a fork, compile by itself: the processes that compile for its parent would never answer it."""
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # read as the settings are imported
    if settings := sys.modules.get("torch._inductor.config"):
        settings.compile_threads = 1  # type: ignore[attr-defined]


def write_summary(writer: Any, summary: Any) -> None:
    """Write a summary as it is; ``SummaryWriter.add_hparams`` opens another file for it, in a folder below."""
    writer._get_file_writer().add_summary(summary)
