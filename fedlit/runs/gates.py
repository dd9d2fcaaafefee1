"""Computes the gates of a network for a batch of inputs, and selects the inputs that a run shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedlit.clients.gradients import evaluating
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
    return (inputs if inputs.dim() == 3 else inputs.mean(1)).float().cpu().numpy()


def gate_maps(net: nn.Module, inputs: Tensor) -> dict[str, Floats]:
    """The maps (B, h, w) of every spatial gate in a network, for a batch of inputs.

    A spatial gate is a module with a method ``gate`` that maps its input to (B, 1, h, w); for sequences, h is time.
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
    """The four-dimensional results of all methods ``gate`` in a network for B inputs, by the module's name.

    Their shape is (B, C, h, w); a gate that is the same for all inputs is repeated. A ``gate`` may also be a module
    with parameters. A module without parameters, such as timm's ``gate``, is only an activation and is ignored.
    """
    found: dict[str, Floats] = {}

    def look(name: str, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        try:
            gate = module.gate(*arguments, *named.values())  # type: ignore[operator]
        except Exception:  # a method of this name need not be a gate; it is then ignored
            return
        if isinstance(gate, Tensor) and gate.dim() == 4 and gate.shape[0] in (1, len(inputs)):
            found[name] = gate.float().expand(len(inputs), -1, -1, -1).cpu().numpy()

    with evaluating(net):
        hooks = [
            module.register_forward_pre_hook(
                lambda module, arguments, named, name=name: look(name, module, arguments, named), with_kwargs=True
            )
            for name, module in net.named_modules()
            if _has_gate(module)
        ]
        try:
            if hooks:
                net(inputs)
        finally:
            for hook in hooks:
                hook.remove()
    return {name.removeprefix("net."): values for name, values in found.items()}


def _has_gate(module: nn.Module) -> bool:
    gate = getattr(module, "gate", None)
    return any(True for _ in gate.parameters()) if isinstance(gate, nn.Module) else callable(gate)
