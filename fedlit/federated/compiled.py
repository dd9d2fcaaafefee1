"""Refuses uses of ``torch.compile`` that have no effect in a federation; ``torch.compile(net)`` itself is supported."""

from __future__ import annotations

from lightning import LightningModule

from fedlit.core.errors import InputError
from fedlit.core.private_lightning import is_compiled
from fedlit.core.private_torch import compiled_in_place


def check_compiled(module: LightningModule) -> None:
    """Refuse a compiled server, and submodules compiled in place, as the clients' copies would not be compiled.

    Raises:
        InputError: Naming the compiled module and the remedy.
    """
    name = type(module).__name__
    if is_compiled(module):
        raise InputError(
            f"the {name} is compiled, but its training step is a round of many fits; compile the network alone: "
            f"{name}(torch.compile(net))"
        )
    for part in compiled_in_place(module):
        raise InputError(
            f"{part or name}.compile() was called, but each client trains a copy, which is not compiled; remove the "
            f"call, and compile the network by {name}(torch.compile(net))"
        )
