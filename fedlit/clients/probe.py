"""Checks that a network and the data fit each other, made before the first round."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import torch
from torch import Tensor, nn

from fedlit.clients.client import ClientModule
from fedlit.clients.gradients import evaluating
from fedlit.clients.nets import check_logits, check_takes_a_batch, input_remedy, trial_copy
from fedlit.core.errors import InputError
from fedlit.core.messages import one_line
from fedlit.core.private_torch import BatchNorm, compiled_parts, uncompiled
from fedlit.core.seeding import global_rng_state, isolated_rng
from fedlit.data.describe import kind_of
from fedlit.data.module import FederatedData

#: A part of BatchNorm's error for a channel with a single value.
BATCHNORM_ERROR = "more than 1 value per channel"


def check_fit(net: nn.Module, data: FederatedData) -> None:
    """Refuse a net that does not turn inputs (B, ...) into logits (B, classes), tried on a few examples.

    Raises:
        InputError: Naming the shapes and the remedy.
    """
    examples = _probe_inputs(net, data)
    inputs = data.transform(examples)
    shape = tuple(inputs.shape[1:])
    check_takes_a_batch(net, inputs)
    try:
        with torch.no_grad(), evaluating(net):  # statistics and random state stay as they are
            logits = net(inputs.clone())
    except (RuntimeError, ValueError, IndexError) as error:
        raise InputError(
            f"the net does not take the data's inputs of shape {shape}, {kind_of(examples)} "
            f"({one_line(str(error), 150)}); {input_remedy(net, inputs)}"
        ) from error
    check_logits(logits, len(inputs), data.num_classes)
    if written := written_in_evaluation(net, inputs):
        raise InputError(
            f"{type(net).__name__} writes its buffer {written} in evaluation too, so each evaluation changes the "
            "model, and a resumed run has other results; write it in training alone (if self.training)"
        )
    check_in_training(net, inputs, data.num_classes)


def check_fit_and_format(net: nn.Module, data: FederatedData) -> None:
    """Give convolutions the memory format in which they are a third faster on CPUs, and check the net by ``check_fit``.

    Values do not change. A net that fails in this format, such as one that calls ``view`` on the maps of a convolution,
    keeps its own.
    """
    given = [(parameter, parameter.data) for parameter in net.parameters() if parameter.dim() == 4]
    for parameter, values in given:
        parameter.data = values.to(memory_format=torch.channels_last)
    try:
        check_fit(net, data)
    except Exception:  # any kind: it shows again if it is not because of the format
        for parameter, values in given:
            parameter.data = values
        check_fit(net, data)


def _probe_inputs(net: nn.Module, data: FederatedData) -> Tensor:
    """A few inputs (B, ...), on the net's device, before the transform.

    If they are tokens, those with the smallest and largest, which an embedding may lack.
    """
    inputs = data.test.inputs
    device = next(net.parameters(), torch.empty(0)).device
    if inputs.dtype != torch.int64 or not inputs.numel():
        return inputs[:2].to(device)
    found = []
    for part in (data.train.inputs, inputs):
        tokens = part.flatten(1)  # (N, T)
        found += [part[tokens.amin(1).argmin()], part[tokens.amax(1).argmax()]]
    return torch.stack(found).to(device)


def check_in_training(net: nn.Module, inputs: Tensor, num_classes: int) -> None:
    """Refuse a net with another output in training mode (auxiliary heads), or another output in each call.

    The latter keeps something outside its state, which the clients of a process would share and a resumed run lacks. It
    may also matter in evaluation alone, such as running statistics in a buffer that is not persistent.

    Raises:
        InputError: Naming the output, or the attribute that the net sets, if there is one.
    """
    with trial_copy(net, inputs.device) as trial:
        try:
            first = trial(inputs.clone())
        except ValueError:  # a normalisation needs more values; whether it matters depends on the clients' batches
            return
        check_logits(first, len(inputs), num_classes, " in training")
        _check_copies(net, inputs)
        _copy_state(net, trial)
        with isolated_rng(0, inputs.device):
            second = trial(inputs.clone())
        _copy_state(net, trial)
        with isolated_rng(0, inputs.device), evaluating(net):
            untrained = net(inputs.clone())
        with isolated_rng(0, inputs.device), evaluating(trial):
            trained = trial(inputs.clone())
    if not torch.allclose(first, second, rtol=1e-3, atol=1e-5, equal_nan=True):
        attribute = assigned_attribute(net, inputs)
        raise InputError(
            f"{type(net).__name__} gives another output each time it is called in training, for the same inputs, "
            f"weights and random draws{f', and sets {attribute}' if attribute else ''}; keep such state in a buffer "
            "(register_buffer), which is sent, averaged and saved"
        )
    if not torch.allclose(untrained, trained, rtol=1e-3, atol=1e-5, equal_nan=True):
        written = written_buffer(net, inputs) or assigned_attribute(net, inputs)
        raise InputError(
            f"in evaluation, {type(net).__name__} gives another output after a forward pass in training, for the same "
            f"weights and buffers{f', as that writes {written}' if written else ''}; keep such state in a buffer that "
            "is part of the net's state_dict (register_buffer without persistent=False), which is sent, averaged and "
            "saved"
        )


def _check_copies(net: nn.Module, inputs: Tensor) -> None:
    """Refuse a net whose copies compute with the net's own parameters, as in a lambda that refers to ``self``."""
    if compiled_parts(net):  # a forward pass with gradients compiles anew, which takes long
        return
    named = {name: p for name, p in net.named_parameters() if p.requires_grad}
    gradients: tuple[Tensor | None, ...] = ()
    with trial_copy(net, inputs.device) as trial, torch.enable_grad(), suppress(Exception):  # the fits will show it
        gradients = torch.autograd.grad(trial(inputs.clone()).sum(), list(named.values()), allow_unused=True)
    for name, gradient in zip(named, gradients, strict=False):
        if gradient is not None:
            raise InputError(
                f"a copy of {type(net).__name__} computes with {name} of the original, so clients, which train copies, "
                "would change nothing; replace the function that refers to the net from its __init__, such as a lambda "
                "with self, by a method"
            )


def _copy_state(source: nn.Module, target: nn.Module) -> None:
    there = target.state_dict()
    for name, value in source.state_dict().items():
        there[name].copy_(value)


def written_buffer(module: nn.Module, *inputs: Tensor) -> str | None:
    """Name of the first buffer that a forward pass in training changes or adds; None if there is none."""
    before = dict(module.named_buffers())
    with trial_copy(module, inputs[0].device) as trial:
        trial(*(each.clone() for each in inputs))
        after = dict(trial.named_buffers())
        return next((name for name in after if name not in before or not torch.equal(before[name], after[name])), None)


def written_in_evaluation(net: nn.Module, inputs: Tensor) -> str | None:
    """Name of the first tensor of a network's state that a forward pass in evaluation changes; None if none."""
    with uncompiled(net) as plain, trial_copy(plain, inputs.device) as trial:
        trial.eval()(inputs.clone())
        after = trial.state_dict()
        return next((name for name, value in plain.state_dict().items() if not torch.equal(value, after[name])), None)


def draws_random_numbers(net: nn.Module, inputs: Tensor) -> bool:
    """Whether a forward pass in training draws from a global generator of PyTorch (CPU), NumPy or Python."""
    with trial_copy(net, inputs.device) as trial:
        before = global_rng_state()
        trial(inputs.clone())
        return global_rng_state() != before


def mixes_examples(net: nn.Module, inputs: Tensor) -> bool:
    """Whether, in training, the logits of an example depend on the other examples of its batch.

    Args:
        net: A network that draws no random numbers.
        inputs: A few examples (B, ...); the first half is evaluated with and without the second.
    """
    half = len(inputs) // 2
    with trial_copy(net, inputs.device) as trial:
        few, many = trial(inputs[:half].clone()), trial(inputs.clone())[:half]
    return not torch.allclose(few, many, rtol=1e-3, atol=1e-4, equal_nan=True)


def unreached_parameter(net: nn.Module, inputs: Tensor) -> str | None:
    """Name of the first trainable parameter on which no logits depend in training; None if there is none."""
    with trial_copy(net, inputs.device) as trial, torch.enable_grad():
        trainable = {name: p for name, p in trial.named_parameters() if p.requires_grad}
        logits = trial(inputs.clone())
        if not logits.requires_grad:
            return next(iter(trainable))
        gradients = torch.autograd.grad(logits.sum(), list(trainable.values()), allow_unused=True)
    return next((name for name, gradient in zip(trainable, gradients, strict=True) if gradient is None), None)


def assigned_attribute(net: nn.Module, inputs: Tensor) -> str | None:
    """Name of the first attribute that a forward pass in training assigns; None if there is none."""
    return next(iter(assigned_attributes(net, inputs)), None)


def assigned_attributes(net: nn.Module, inputs: Tensor, training: bool = True) -> list[str]:
    """Names of all attributes that a forward pass assigns, such as ``0.calls``."""
    with trial_copy(net, inputs.device) as trial:
        trial.train(training)
        before = {name: dict(vars(module)) for name, module in trial.named_modules()}
        trial(inputs.clone())
    return [
        f"{name}.{attribute}".strip(".")
        for name, module in trial.named_modules()
        for attribute, value in vars(module).items()
        if attribute not in before[name] or before[name][attribute] is not value
    ]


def settings(module: nn.Module) -> dict[str, object]:
    """The numbers, truth values and texts in public attributes of a module and all modules in it, by name."""
    return {
        f"{name}.{attribute}".strip("."): value
        for name, part in module.named_modules()
        for attribute, value in vars(part).items()
        if isinstance(value, int | float | str) and attribute != "training" and not attribute.startswith("_")
    }


def fixed_settings(net: nn.Module, data: FederatedData) -> dict[str, object]:
    """The settings of a network that its own code does not change as it computes; none of a compiled network."""
    if compiled_parts(net):  # a forward pass of a copy compiles anew, which takes long
        return {}
    inputs = data.transform(_probe_inputs(net, data))
    written: set[str] = set()
    for training in (True, False):
        with suppress(ValueError):  # a normalisation that needs more examples, in training
            written.update(assigned_attributes(net, inputs, training))
    return {name: value for name, value in settings(net).items() if name not in written}


def check_single_examples(client: ClientModule, data: FederatedData) -> None:
    """Refuse a net with BatchNorm if a client has a batch of one example, which cannot be normalised.

    Raises:
        InputError: Naming the first such client.
    """
    alone = np.flatnonzero(data.partition.sizes % data.batch_size == 1) if data.batch_size > 1 else np.array([0])
    if not len(alone) or not any(isinstance(layer, BatchNorm) for layer in client.net.modules()):
        return
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            # This changes the statistics, but no fit starts from them.
            client.net(data.transform(data.train.inputs[:1]).clone())
    except ValueError as error:
        if BATCHNORM_ERROR not in str(error):
            raise
        raise InputError(
            f"client {alone[0]} has a batch of a single example, which BatchNorm cannot normalise ({len(alone)} such "
            "clients); change data.batch_size or the partition's min_samples, or use another normalisation"
        ) from error
