"""Which members of ``ClientModule`` a client overrides; overrides of members that are never called are refused."""

from __future__ import annotations

import inspect

from lightning import LightningModule
from torch import nn

from fedlit.clients.client import ClientModule
from fedlit.core.errors import InputError

#: Beginnings of the names of Lightning's hooks that no fit calls: of tests, predictions and checkpoints.
OUTSIDE_OF_FITS = ("on_test_", "test_", "on_predict_", "predict_", "on_save_checkpoint", "on_load_checkpoint")
#: Those of the hooks that a fit calls if the client has both of ``VALIDATES``.
OF_VALIDATION = ("on_validation_", "validation_", "val_dataloader")
VALIDATES = ("val_dataloader", "validation_step")
#: Properties that a Trainer or a move to a device sets, not the module's author.
WRITTEN_BY_TRAINERS = frozenset({"dtype", "fabric", "trainer"})


def lightning_members() -> frozenset[str]:
    """Names of all members that the installed Lightning defines for a module: hooks, other methods, properties."""
    classes = [base for base in LightningModule.__mro__ if base not in nn.Module.__mro__]
    return frozenset(name for base in classes for name in vars(base) if not name.startswith("__"))


def client_members() -> frozenset[str]:
    """Names of all methods that ``ClientModule`` defines."""
    return frozenset(name for name, value in vars(ClientModule).items() if inspect.isfunction(value)) - {"__init__"}


def overridden_member(client: ClientModule, names: frozenset[str], called: frozenset[str] = frozenset()) -> str | None:
    """The first of ``names``, but not of ``called``, that a client's class or the client itself overrides.

    Returns:
        A clause for a message, such as ``MyClient overrides backward``; None if there is none.
    """
    for name in sorted(names - called):
        if inspect.getattr_static(client, name) is not inspect.getattr_static(ClientModule, name):
            return f"{type(client).__name__} overrides {name}"
    return None


def check_called(client: ClientModule) -> None:
    """Refuse a client that overrides a hook of Lightning which its training does not call with any engine.

    Raises:
        InputError: Naming the hook.
    """
    validates = all(overridden_member(client, frozenset({name})) for name in VALIDATES)
    never = OUTSIDE_OF_FITS if validates else (*OUTSIDE_OF_FITS, *OF_VALIDATION)
    names = frozenset(name for name in lightning_members() if name.startswith(never))
    if found := overridden_member(client, names):
        of_validation = (
            f"; validation needs {' and '.join(VALIDATES)}" if found.split()[-1].startswith(OF_VALIDATION) else ""
        )
        raise InputError(
            f"{found}, which a client's training never calls{of_validation}; leave it out, or override it in a "
            "FederatedModule, which evaluates the global model"
        )


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
