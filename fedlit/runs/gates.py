"""Computes the gates of a network for a batch of inputs, and selects the inputs that a run shows."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from functools import partial
from itertools import chain, count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fedlit.clients.gradients import evaluating
from fedlit.core.private_torch import uncompiled
from fedlit.core.seeding import isolated_rng
from fedlit.data.module import FederatedData

Floats = NDArray[np.float32]


def shown_inputs(data: FederatedData, number: int) -> Tensor:
    """Inputs of `FederatedData.validated` after preprocessing, always the same and evenly spaced, to cover many
    classes."""
    inputs = data.validated.inputs
    return data.transform(inputs[torch.linspace(0, len(inputs) - 1, number).long()])


def as_images(inputs: Tensor) -> Floats | None:
    """Inputs as grey pictures (B, H, W), or sequences (B, T, S) unchanged; None if they are neither."""
    if inputs.dim() not in (3, 4) or not inputs.is_floating_point():
        return None
    return (inputs if inputs.dim() == 3 else inputs.mean(1)).cpu().numpy()


def gate_maps(net: nn.Module, inputs: Tensor) -> dict[str, Floats]:
    """The maps (B, h, w) of every spatial gate in a network, for a batch of inputs.

    A spatial gate is one of `gates` with the shape (B, 1, h, w); for sequences, h is time.
    """
    return {name: gate[:, 0] for name, gate in gates(net, inputs).items() if is_map(gate)}


def is_map(gate: Floats) -> bool:
    """Whether a gate (B, C, h, w) is a spatial one."""
    return gate.shape[1] == 1 and gate.shape[2:] != (1, 1)


def is_of_channels(gate: Floats) -> bool:
    """Whether a gate (B, C, h, w) has one number for each of several channels."""
    return gate.shape[1] > 1 and gate.shape[2:] == (1, 1)


@torch.no_grad()
def gates(net: nn.Module, inputs: Tensor) -> dict[str, Floats]:
    """The four-dimensional gates of a network for B inputs, by the name of the module that has a ``gate``.

    Their shape is (B, C, h, w); a gate that is the same for all inputs is repeated. If ``gate`` is a method, it is
    called with the arguments of the module's ``forward``; if it is a module, such as timm's, its output in the
    network's forward pass is taken. Further calls of the same module have names such as ``NAME, call 2``.

    All global generators stay unchanged. Compiled parts run as they were before ``torch.compile``, as their programs
    would leave out the hooks that are used here.
    """
    found: dict[str, Floats] = {}
    listening: dict[str, RemovableHandle] = {}
    asked: list[str] = []

    def note(name: str, gate: Any) -> None:
        if isinstance(gate, Tensor) and gate.dim() == 4 and gate.shape[0] in (1, len(inputs)):
            names = chain([name], (f"{name}, call {number}" for number in count(2)))
            values = gate.float().expand(len(inputs), -1, -1, -1).cpu().numpy()
            found[next(name for name in names if name not in found)] = values.copy()  # the net may go on in place

    def begin(name: str, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if asked:  # not a call of the net's, but of the method that is asked
            return
        if isinstance(module.gate, nn.Module):
            listening[name] = module.gate.register_forward_hook(lambda _module, _inputs, output: note(name, output))
            return
        asked.append(name)
        with suppress(Exception):  # a method of this name need not be a gate
            note(name, module.gate(*arguments, **named))  # type: ignore[operator]
        asked.clear()

    def end(name: str) -> None:
        if name in listening:
            listening.pop(name).remove()

    with ExitStack() as stack:
        stack.enter_context(isolated_rng(0, inputs.device))
        plain = stack.enter_context(uncompiled(net))
        stack.enter_context(evaluating(plain))
        for name, module in plain.named_modules():
            if callable(getattr(module, "gate", None)):
                before = module.register_forward_pre_hook(partial(begin, name), with_kwargs=True)
                after = module.register_forward_hook(lambda *_, name=name: end(name), always_call=True)
                stack.callback(before.remove)
                stack.callback(after.remove)
        plain(inputs)
    return found
