"""Which members of ``ClientModule`` a client overrides; an engine refuses overrides of members that it never calls."""

from __future__ import annotations

import inspect

from lightning import LightningModule
from torch import nn

from fedlit.clients.client import ClientModule

#: Properties that a Trainer or a move to a device sets, not the module's author.
WRITTEN_BY_TRAINERS = frozenset({"dtype", "fabric", "trainer"})


def lightning_members() -> frozenset[str]:
    """Names of all members that the installed Lightning defines for a module: hooks, other methods, properties."""
    classes = [base for base in LightningModule.__mro__ if base not in nn.Module.__mro__]
    return frozenset(name for base in classes for name in vars(base) if not name.startswith("__"))


def client_members() -> frozenset[str]:
    """Names of all methods that ``ClientModule`` defines."""
    return frozenset(name for name, value in vars(ClientModule).items() if inspect.isfunction(value)) - {"__init__"}


def overridden_member(client: ClientModule, names: frozenset[str], called: frozenset[str]) -> str | None:
    """The first of ``names``, but not of ``called``, that a client's class or the client itself overrides.

    Returns:
        A clause for a message, such as ``MyClient overrides backward``; None if there is none.
    """
    for name in sorted(names - called):
        if inspect.getattr_static(client, name) is not inspect.getattr_static(ClientModule, name):
            return f"{type(client).__name__} overrides {name}"
    return None


def changed_setting(client: ClientModule) -> str | None:
    """The first of Lightning's settings of a module that the client has changed, as a clause for a message; or None."""
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
