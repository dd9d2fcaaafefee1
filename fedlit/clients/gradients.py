"""A network on all of a client's data: its accuracy and the gradient of its mean loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fedlit.core.private_torch import original
from fedlit.data.examples import Batches


@torch.no_grad()
def accuracy(net: nn.Module, batches: Batches) -> float:
    """Share of the examples that a network classifies right, in evaluation mode."""
    with evaluating(net):
        hits = sum((net(inputs).argmax(-1) == targets).sum() for inputs, targets in batches)
    return float(hits) / batches.num_examples


def divisor(loss: Any, targets: Tensor) -> float:
    """The number that a mean loss divides its sum by: that of the examples, or the sum of their class weights."""
    loss = original(loss)
    if not isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) or (loss.weight is None and loss.ignore_index < 0):
        return len(targets)
    counted = targets[targets != loss.ignore_index]
    return len(counted) if loss.weight is None else float(loss.weight[counted].double().sum())


def full_gradient(net: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], batches: Batches) -> float:
    """Compute the gradient of F, the mean loss over all examples, in ``.grad``, which it replaces.

    The network is in evaluation mode: without dropout, and with the running statistics of BatchNorm.

    Args:
        net: The network.
        loss: Mean loss of logits and targets.
        batches: All examples, in batches of any size.

    Returns:
        F itself.
    """
    net.zero_grad()
    total = counted = 0.0
    with evaluating(net), backward_in_evaluation(net), torch.enable_grad():
        for inputs, targets in batches:
            if size := divisor(loss, targets):
                part = loss(net(inputs), targets) * (size / batches.num_examples)
                part.backward()
                total, counted = total + float(part.detach()), counted + size
    make_dense(net.parameters())
    if counted not in (0, batches.num_examples):  # classes have weights
        scale = batches.num_examples / counted
        torch._foreach_mul_([p.grad for p in net.parameters() if p.grad is not None], scale)
        total *= scale
    return total


@contextmanager
def backward_in_evaluation(net: nn.Module) -> Iterator[None]:
    """Let recurrent layers have gradients in evaluation mode, which cuDNN refuses and PyTorch's own kernels do not."""
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = before and not any(isinstance(module, nn.RNNBase) for module in net.modules())
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


def make_dense(parameters: Iterable[Tensor]) -> None:
    """Make sparse gradients dense, such as those of ``Embedding(sparse=True)``; few operations take both kinds."""
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.to_dense()


def others_than(optimizer: Optimizer, parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    """Those of the parameters that an optimizer does not step; none if it steps none of them, but copies."""
    stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    others = [parameter for parameter in parameters if id(parameter) not in stepped]
    return others if len(others) < len(parameters) else []


@contextmanager
def without_gradients(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Hide the gradients of parameters within the block."""
    hidden = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in zip(parameters, hidden, strict=True):
            parameter.grad = gradient


def norm_of_gradient(parameters: Sequence[nn.Parameter]) -> float:
    """||grad||_2 over all of these parameters together."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return math.sqrt(sum(float(norm.double()) ** 2 for norm in torch._foreach_norm(gradients))) if gradients else 0.0


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode within the block, and each of its modules back into its mode afterwards."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        net.train(modes[0][1])  # a class of a user's may do more here than set the mode
        for module, was_training in modes:
            module.training = was_training
