"""What a client overrides of ``ClientModule``: an engine says which members it calls; overriding others is refused."""

from __future__ import annotations

import inspect

from lightning import LightningModule
from torch import nn

from fedlit.clients.client import ClientModule

#: Properties of every module that are set by a Trainer or a device and not by the module's author.
WRITTEN_BY_TRAINERS = frozenset({"dtype", "fabric", "trainer"})


def of_lightning() -> frozenset[str]:
    """Names of all that Lightning defines for a module (hooks, other methods, properties), whatever its version."""
    classes = [base for base in LightningModule.__mro__ if base not in nn.Module.__mro__]
    return frozenset(name for base in classes for name in vars(base) if not name.startswith("__"))


def of_client() -> frozenset[str]:
    """Names of all methods that ``ClientModule`` defines."""
    return frozenset(name for name, value in vars(ClientModule).items() if inspect.isfunction(value)) - {"__init__"}


def overridden(client: ClientModule, names: frozenset[str], called: frozenset[str]) -> str | None:
    """What a client overrides, in its class or on itself, of these names without those called, in words; or None."""
    for name in sorted(names - called):
        if inspect.getattr_static(client, name) is not inspect.getattr_static(ClientModule, name):
            return f"{type(client).__name__} overrides {name}"
    return None


def reset(client: ClientModule) -> str | None:
    """Which of the settings that Lightning gives a module the client has changed, in words; or None."""
    usual = LightningModule()
    properties = {name for name, _ in inspect.getmembers(LightningModule, _is_settable)}
    attributes = {name for name in vars(usual).keys() - vars(nn.Module()).keys() if not name.startswith("_")}
    for name in sorted((properties | attributes) - WRITTEN_BY_TRAINERS):
        value = getattr(client, name)
        if value is not getattr(usual, name):  # they are True, False or None
            return f"{type(client).__name__} sets {name} to {value}"
    return None


def _is_settable(member: object) -> bool:
    return isinstance(member, property) and member.fset is not None
