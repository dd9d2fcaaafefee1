"""Compilation that a federation would not see is refused; a network of ``torch.compile(net)`` is like any other."""

from __future__ import annotations

from lightning import LightningModule

from fedlit.core.errors import InputError
from fedlit.core.private_lightning import is_compiled
from fedlit.core.private_torch import compiled_in_place


def check_compiled(module: LightningModule) -> None:
    """Refuse a compiled server, whose step is a round, and parts compiled in place, which the clients' copies are not.

    Raises:
        InputError: Naming what is compiled, and the remedy.
    """
    name = type(module).__name__
    if is_compiled(module):
        raise InputError(
            f"the {name} is compiled, but its training step is a round of many fits; compile the network alone: "
            f"{name}(torch.compile(net))"
        )
    for part in compiled_in_place(module):
        raise InputError(
            f"{part or name}.compile() was called, but each client trains a copy, and copies lose what that compiled; "
            f"leave it out, and compile the network by {name}(torch.compile(net))"
        )
