"""What clients need of a network, and what to do where it is not so."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fedlit.core.errors import InputError
from fedlit.core.seeding import isolated_rng


def check_trainable(net: nn.Module) -> None:
    """Refuse a net that has nothing to train, whose parameters have no shape yet, or of which copies do not train.

    Raises:
        InputError: Naming a parameter or a part, where there is one.
    """
    for name, module in net.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise InputError(
                f"{name or 'the net'} is compiled by torch.jit, and copies of that, such as each client's, cannot be "
                "trained; give the module that it was made of"
            )
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        if is_lazy(tensor):
            raise InputError(
                f"the net's {name} has no shape before a first batch (it is of a lazy module); give the layer its "
                "sizes, or run one batch through the net at the end of its __init__"
            )
    if not any(parameter.requires_grad for parameter in net.parameters()):
        has = "all parameters frozen" if any(True for _ in net.parameters()) else "no parameters"
        raise InputError(f"the net has {has} and so nothing to train; let some have requires_grad=True")


def parameter_beside(net: nn.Module, module: nn.Module) -> str | None:
    """The first parameter of a module that is to be trained beside its net, by its name; None if there is none."""
    of_net = {id(parameter) for parameter in net.parameters()}
    named = module.named_parameters()
    return next((name for name, value in named if value.requires_grad and id(value) not in of_net), None)


def check_takes_a_batch(net: nn.Module, inputs: Tensor) -> None:
    """Refuse a net whose ``forward`` takes something else than one batch of inputs.

    Raises:
        InputError: Naming the arguments that it takes.
    """
    try:
        arguments = inspect.signature(net.forward).parameters
        inspect.signature(net.forward).bind(inputs)
    except TypeError as error:
        raise InputError(
            f"forward({', '.join(arguments)}) of {type(net).__name__} does not take one batch of inputs and no more "
            f"({error}); give the net a forward(self, inputs), the data has one tensor for each example"
        ) from error
    except ValueError:  # a forward of C++ has no signature
        return


def check_answer(answer: Any, num_inputs: int, num_classes: int, when: str = "") -> None:
    """Refuse an output that is not logits (B, classes).

    Raises:
        InputError: Naming what it is.
    """
    wanted = f"logits of shape (B, {num_classes})"
    if not isinstance(answer, Tensor):
        raise InputError(
            f"the net returns a {type(answer).__name__}{when}; let its forward return {wanted}, or wrap it in a module "
            "whose forward returns them"
        )
    if tuple(answer.shape) != (num_inputs, num_classes):
        raise InputError(
            f"the net turns {num_inputs} inputs into {tuple(answer.shape)}, but the data has {num_classes} classes; it "
            f"must give {wanted}: an argument num_classes is taken from the data, others (in timm: "
            "--model.net.dict_kwargs.num_classes) have to be given"
        )
    if not answer.is_floating_point():
        raise InputError(f"the net returns {answer.dtype}; let its forward return {wanted}, of which losses are taken")


@contextmanager
def trying(module: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """A copy in training mode, called without gradients; the module and all global generators stay as they are."""
    with torch.no_grad(), isolated_rng(0, device):
        yield copy.deepcopy(module).train()


def remedy(net: nn.Module, inputs: Tensor) -> str:
    """What to do about a net that did not take inputs (B, ...): the first of the usual reasons that holds."""
    for name, tensor in net.named_parameters():
        if tensor.is_floating_point() and inputs.is_floating_point() and tensor.dtype != inputs.dtype:
            kinds = f"{name} is {tensor.dtype} and the inputs are {inputs.dtype}"
            return f"{kinds}: leave .double() or .half() out of the net, trainer.precision sets what it computes in"
    if not inputs.is_floating_point():
        return "tokens need a net that embeds all of them, pixels must be saved as uint8"
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d) and inputs.dim() == 4:
            if layer.in_channels == inputs.shape[1]:
                break
            return (
                f"{name} takes {layer.in_channels} channels and the data has {inputs.shape[1]}: an argument "
                "in_channels is taken from the data, others (in timm: --model.net.dict_kwargs.in_chans) have to be "
                f"given, and a net without one needs data of {layer.in_channels} channels"
            )
    return "give model.net the data's image_size, or another net"
