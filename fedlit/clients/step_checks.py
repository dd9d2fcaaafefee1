"""Checks of the parts of a training step, made before the first round: the loss and the optimizers."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer

from fedlit.clients.gradients import divisor, evaluating
from fedlit.clients.probe import settings, written_buffer
from fedlit.core.errors import InputError
from fedlit.core.layout import trainable
from fedlit.core.limits import FLOAT32_MAX
from fedlit.core.messages import one_line
from fedlit.core.private_torch import original
from fedlit.core.seeding import isolated_rng
from fedlit.data.module import FederatedData

#: The most logits that are made up to try a loss.
NUMBERS = 1_000_000
LOSS_REMEDY = "use torch.nn.CrossEntropyLoss, or a loss of your own that is a mean over examples"


def check_loss(loss: nn.Module, net: nn.Module, data: FederatedData) -> None:
    """Refuse a loss that is not a mean over examples, for logits (B, classes) and class numbers (B,).

    Raises:
        InputError: If, on a few examples, the loss does not accept these tensors, does not return one number, returns a
            sum, or has no gradient; and if it has parameters or state, which are neither sent nor averaged.
    """
    name = f"model.loss {type(loss).__name__}"
    for parameter, value in loss.named_parameters():
        if value.requires_grad:
            raise InputError(
                f"{name} has a parameter {parameter}, but clients train the parameters of the net alone; make it a "
                "part of the net, or set its requires_grad to False"
            )
    logits, targets = _examples(net, data)
    given = f"logits {tuple(logits.shape)} and class numbers {tuple(targets.shape)}"
    try:
        with warnings.catch_warnings(action="ignore"), isolated_rng(0, logits.device), torch.enable_grad():
            trial = copy.deepcopy(loss)
            value = trial(logits, targets)
            twice = trial(logits.repeat(2, 1), targets.repeat(2))
            buffer = written_buffer(loss, logits.detach(), targets)
        with warnings.catch_warnings(action="ignore"), isolated_rng(0, logits.device), torch.enable_grad():
            again = trial(logits, targets)
    except Exception as error:  # any kind: every step would raise it
        raise InputError(f"{name} does not take {given} ({one_line(str(error), 150)}); {LOSS_REMEDY}") from error
    if not isinstance(value, Tensor) or value.shape != ():
        gives = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise InputError(
            f"{name} gives {gives} for {given}, but must give one number, their mean; set model.loss.reduction to "
            "mean, or use another loss"
        )
    if buffer:
        raise InputError(
            f"{name} writes its buffer {buffer} when it is called, but clients share one loss, whose state is neither "
            "sent nor averaged; keep it in a buffer of the net"
        )
    if not value.requires_grad:
        raise InputError(f"{name} has no gradient with respect to the logits; {LOSS_REMEDY}")
    if not torch.allclose(value, again, rtol=1e-3, equal_nan=True):
        raise InputError(
            f"{name} gives another value each time it is called, for the same logits, targets and random draws; let it "
            "keep no state between calls, as clients share one loss, and draw only from PyTorch's global generator"
        )
    once, doubled = float(value.detach()), float(twice.detach())
    if once and math.isclose(doubled, 2 * once, rel_tol=1e-3):
        raise InputError(
            f"{name} gives a sum over examples: {once:.6g}, and {doubled:.6g} if each example is repeated; set "
            "model.loss.reduction to mean, or use another loss"
        )
    if not adds_up(loss, data.num_classes, logits.device):
        rank_zero_warn(
            f"{name} is not a mean over examples, so global/loss and diagnostics/* depend on data.eval_batch_size, "
            f"{data.eval_batch_size} here; compare only runs with the same one"
        )


def adds_up(loss: nn.Module, num_classes: int, device: torch.device) -> bool:
    """Whether the loss of many examples is the mean of the losses of their batches, weighted by `divisor`.

    Counterexamples are losses that divide by weights of their own, or use only the hardest examples of a batch.
    """
    logits, targets = _made_up(num_classes, device)
    total = weight = 0.0
    parts = [1, len(targets) - 1]
    try:
        with torch.no_grad(), isolated_rng(0, device), warnings.catch_warnings(action="ignore"):
            trial = copy.deepcopy(original(loss))
            whole = float(trial(logits, targets))
            for part in zip(logits.split(parts), targets.split(parts), strict=True):
                if size := divisor(trial, part[1]):
                    total, weight = total + float(trial(*part)) * size, weight + size
    except Exception:  # any kind, from a user's class; a batch that it cannot take will show it again
        return True
    return not weight or math.isclose(total / weight, whole, rel_tol=1e-3, abs_tol=1e-6) or math.isnan(whole)


def is_plain_mean(loss: Callable[[Tensor, Tensor], Tensor], num_classes: int, device: torch.device) -> bool:
    """Whether a loss is the plain mean of its examples' losses, which it returns with ``reduction = "none"``.

    It is not if classes have weights or are ignored, or if it uses only the hardest examples of a batch.
    """
    if getattr(loss, "reduction", None) != "mean":
        return False
    logits, targets = _made_up(num_classes, device)
    try:
        with torch.no_grad(), isolated_rng(0, device):
            whole: Any = copy.deepcopy(loss)
            each: Any = copy.deepcopy(loss)
            each.reduction = "none"
            alone = torch.stack([whole(*pair) for pair in zip(logits.split(1), targets.split(1), strict=True)])
            found = (each(logits, targets), whole(logits, targets))
    except Exception:  # a user's class may raise any kind
        return False
    return found[0].shape == alone.shape and all(
        torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in ((found[0], alone), (found[1], alone.mean()))
    )


def _made_up(num_classes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits (N, C) and targets (N,): each class twice, or fewer at equal steps beyond `NUMBERS` logits."""
    count = min(2 * num_classes, max(6, NUMBERS // num_classes))
    targets = torch.arange(count, device=device) * max(1, num_classes // count) % num_classes
    return (12.9 * torch.arange(count * num_classes, device=device)).sin().view(-1, num_classes), targets


def fixed_loss_settings(loss: nn.Module, net: nn.Module, data: FederatedData) -> dict[str, object]:
    """The settings of a loss that its own code does not change as it computes."""
    logits, targets = _examples(net, data)
    with warnings.catch_warnings(action="ignore"), isolated_rng(0, logits.device):
        trial = copy.deepcopy(loss)
        trial(logits, targets)
    after = settings(trial)
    return {name: value for name, value in settings(loss).items() if str(after.get(name)) == str(value)}


def _examples(net: nn.Module, data: FederatedData) -> tuple[Tensor, Tensor]:
    """Logits (B, classes), which are a leaf that requires a gradient, and targets (B,).

    B differs from the number of classes, so that the shapes cannot be broadcast, and a loss of two tensors of the same
    shape raises an error.
    """
    size = 2 if data.num_classes != 2 else 3
    device = next(net.parameters(), torch.empty(0)).device
    rows = torch.arange(size, device=data.test.targets.device) % len(data.test)
    with torch.no_grad(), evaluating(net):  # statistics and random state stay as they are
        logits = net(data.transform(data.test.inputs[rows].to(device)))
    return logits.detach().requires_grad_(), data.test.targets[rows].to(device)


def check_arguments(where: str, optimizer: OptimizerCallable, net: nn.Module) -> None:
    """Refuse an optimizer that is already made, arguments that it does not accept, and numbers not finite in float32.

    Args:
        where: The optimizer's place in the config.
        optimizer: From parameters to an optimizer.
        net: The network.

    Raises:
        InputError: Naming the argument.
    """
    if not callable(optimizer):
        raise InputError(
            f"{where} must be a function from parameters to an optimizer, as each fit makes one, got an object of "
            f"{type(optimizer).__name__}; give lambda parameters: torch.optim.SGD(parameters, lr=0.1), for example"
        )
    try:
        made = optimizer(net.parameters())
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: {error}; correct its arguments") from error
    for name, value in made.defaults.items():
        for number in value if isinstance(value, tuple | list) else (value,):
            if isinstance(number, float) and not abs(number) <= FLOAT32_MAX:
                raise InputError(f"{where}.{name} must be a finite number in float32, got {number}; correct it")


def check_optimizer(where: str, optimizer: OptimizerCallable, net: nn.Module, **arguments: Any) -> Optimizer:
    """Make an optimizer for copies of a network's trainable parameters and check it by ``check_steps``.

    Returns:
        The optimizer of the copies.

    Raises:
        InputError: Naming the optimizer and its error.
    """
    copies = [nn.Parameter(p.detach().clone()) for p in trainable(net)]
    made = optimizer(copies)
    check_steps(where, made, **arguments)
    return made


def check_steps(where: str, optimizer: Optimizer, **arguments: Any) -> None:
    """Refuse an optimizer that cannot step on given gradients, such as one that evaluates the loss again (L-BFGS), or
    that steps along them, as it would move away from the broadcast model, or from the clients' average.

    Args:
        where: Its place in the config.
        optimizer: The optimizer; its parameters may change.
        arguments: Arguments for its ``step``.

    Raises:
        InputError: Naming the optimizer and its error.
    """
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise InputError(
            f"{where} {type(optimizer).__name__} has maximize True, but clients minimise their loss and proximal term, "
            "and the server the distance to their average; leave maximize out, and let model.loss be the negative of "
            "what is to grow"
        )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    try:
        optimizer.step(**arguments)
    except Exception as error:  # any kind: every step would raise it
        raise InputError(
            f"{where} {type(optimizer).__name__} cannot step on the dense gradient of one batch "
            f"({one_line(str(error), 150)}); use an optimizer that can, such as torch.optim.SGD or Adam"
        ) from error
    finally:
        for parameter in parameters:
            parameter.grad = None
