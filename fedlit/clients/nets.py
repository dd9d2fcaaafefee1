"""Requirements on a network that clients train, and remedies where it does not meet them."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fedlit.clients.client import ClientModule
from fedlit.core.errors import InputError
from fedlit.core.layout import Layout
from fedlit.core.private_torch import has_gradient_hooks
from fedlit.core.seeding import isolated_rng


def check_trainable(net: nn.Module) -> None:
    """Refuse a net that has nothing to train, a step of its own or lazy parameters, or whose copies cannot be trained.

    Raises:
        InputError: Naming the parameter or submodule, if there is one.
    """
    if isinstance(net, LightningModule) and type(net).training_step is not LightningModule.training_step:
        raise InputError(
            f"the net {type(net).__name__} is a LightningModule, whose training_step and configure_optimizers would "
            "not be called; give the network in it as net, its loss as loss, its optimizer as client_optimizer, and a "
            "training_step of its own to a subclass of ClientModule"
        )
    for name, module in net.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise InputError(
                f"{name or 'the net'} is compiled by torch.jit, and clients train copies of the net, which torch.jit "
                "does not support; give the original module"
            )
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        if is_lazy(tensor):
            raise InputError(
                f"the net's {name} has no shape before the first batch (it belongs to a lazy module); give the layer "
                "its sizes, or run one batch through the net at the end of its __init__"
            )
        if tensor.is_meta:
            raise InputError(f"the net's {name} is on the meta device and has no values; make the net on a real device")
    if not any(parameter.requires_grad for parameter in net.parameters()):
        has = "all parameters frozen" if any(True for _ in net.parameters()) else "no parameters"
        raise InputError(f"the net has {has} and so nothing to train; set requires_grad=True for some")


def warn_of_evaluation_mode(net: nn.Module) -> None:
    """Warn of modules that were put into evaluation mode within a net in training mode, as clients train all of it."""
    found = [name for name, module in net.named_modules() if not module.training]
    if net.training and found:
        rank_zero_warn(
            f"the net's {found[0]} is in evaluation mode, but clients train the whole net in training mode; to keep it "
            "in evaluation mode, such as a BatchNorm with frozen statistics, put it there in the __init__ of your own "
            "ClientModule, after super().__init__"
        )


def check_gradient_hooks(net: nn.Module) -> None:
    """Refuse a net whose parameters have hooks for their gradients, which the clients' copies of the net do not have.

    Raises:
        InputError: Naming the parameter.
    """
    for name, parameter in net.named_parameters():
        if has_gradient_hooks(parameter):
            raise InputError(
                f"the net's {name} has a hook for its gradient, but clients train copies of the net, which lose it; "
                "register it in the __init__ of your own ClientModule, after super().__init__"
            )


def check_same_net(client: ClientModule) -> None:
    """Refuse a client whose ``__init__`` changed its copy of the net: other tensors are not sent, trained or averaged.

    It may freeze parameters.

    Raises:
        InputError: Naming the tensor.
    """
    layout, parameters = client.layout, client.parameters_  # of the copy as it was made
    has, named = Layout.of(client.net), dict(client.net.named_parameters())
    now = {*has.trainable, *has.fixed, *has.counts, *has.flags}
    sent = {*layout.trainable, *layout.fixed, *layout.counts, *layout.flags}
    replaced = [name for name, old in zip(layout.trainable, parameters, strict=False) if named.get(name) is not old]
    changed = [*sorted(now ^ sent), *replaced, *layout.trainable[len(parameters) :]]
    if changed:
        raise InputError(
            f"{type(client).__name__} changes {changed[0]} in its copy of the net, but it trains the tensors of the "
            "net that the server sends; make the change in model.net, or freeze a parameter by requires_grad_(False)"
        )


def parameter_outside_net(net: nn.Module, module: nn.Module) -> str | None:
    """Name of the first trainable parameter of a module that is not part of its net; None if there is none."""
    of_net = {id(parameter) for parameter in net.parameters()}
    named = module.named_parameters()
    return next((name for name, value in named if value.requires_grad and id(value) not in of_net), None)


def check_takes_a_batch(net: nn.Module, inputs: Tensor) -> None:
    """Refuse a net whose ``forward`` does not take exactly one batch of inputs.

    Raises:
        InputError: Naming the arguments of ``forward``.
    """
    try:
        arguments = inspect.signature(net.forward).parameters
        inspect.signature(net.forward).bind(inputs)
    except TypeError as error:
        raise InputError(
            f"forward({', '.join(arguments)}) of {type(net).__name__} does not take exactly one batch of inputs "
            f"({error}); give the net a forward(self, inputs), as the data has one tensor for each example"
        ) from error
    except ValueError:  # a forward of C++ has no signature
        return


def check_logits(answer: Any, num_inputs: int, num_classes: int, when: str = "") -> None:
    """Refuse an output of the net that is not logits (B, classes).

    Raises:
        InputError: Naming the output's type or shape.
    """
    wanted = f"logits of shape (B, {num_classes})"
    if not isinstance(answer, Tensor):
        raise InputError(
            f"the net returns a {type(answer).__name__}{when}; let its forward return {wanted}, or wrap it in a module "
            "whose forward returns them"
        )
    if num_classes == 2 and tuple(answer.shape) in ((num_inputs, 1), (num_inputs,)):
        raise InputError(
            f"the net turns {num_inputs} inputs into {tuple(answer.shape)}, one number for two classes{when}; let it "
            f"return {wanted}, without a sigmoid, for torch.nn.CrossEntropyLoss instead of BCELoss"
        )
    if tuple(answer.shape) != (num_inputs, num_classes):
        raise InputError(
            f"the net turns {num_inputs} inputs into {tuple(answer.shape)}, but the data has {num_classes} classes; it "
            f"must return {wanted}: an argument num_classes is set from the data, arguments of other names (in timm: "
            "--model.net.dict_kwargs.num_classes) have to be given"
        )
    if not answer.is_floating_point():
        raise InputError(f"the net returns {answer.dtype}; let its forward return floating-point {wanted}")


@contextmanager
def trial_copy(module: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """A copy in training mode, without gradients; the module and all global generators stay unchanged."""
    with torch.no_grad(), isolated_rng(0, device):
        # Moved, though it is there already, because that joins the copied weights of a recurrent layer on a GPU again.
        yield copy.deepcopy(module).to(device).train()


def input_remedy(net: nn.Module, inputs: Tensor) -> str:
    """The remedy for a net that failed on inputs (B, ...), by the first of the usual reasons that applies."""
    for name, tensor in net.named_parameters():
        if tensor.is_floating_point() and inputs.is_floating_point() and tensor.dtype != inputs.dtype:
            kinds = f"{name} is {tensor.dtype} and the inputs are {inputs.dtype}"
            if inputs.dtype != torch.float32:
                return f"{kinds}: let the data's transform give {tensor.dtype}"
            if tensor.dtype == torch.get_default_dtype() != torch.float32:
                return f"{kinds}: call torch.set_default_dtype(torch.float32), and make the net after it"
            if tensor.dtype == torch.float64:
                return f"{kinds}: remove .double() from the net"
            made = ".half()" if tensor.dtype == torch.float16 else ".bfloat16()"
            return f"{kinds}: remove {made} from the net, and set trainer.precision to bf16-mixed instead"
    if not inputs.is_floating_point():
        return "tokens need a net with an embedding for all of them, and pixels must be saved as uint8"
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d) and inputs.dim() == 4:
            if layer.in_channels == inputs.shape[1]:
                break
            return (
                f"{name} takes {layer.in_channels} channels and the data has {inputs.shape[1]}: an argument "
                "in_channels is set from the data, arguments of other names (in timm: "
                f"--model.net.dict_kwargs.in_chans) have to be given, and a net without one needs data of "
                f"{layer.in_channels} channels"
            )
    return "give model.net the data's image_size, or another net"
