"""Federated learning as a Lightning training run.

The names that users need, loaded when they are first used: ``fedlit.FederatedModule`` is
``fedlit.federated.FederatedModule``. More of each kind is in ``fedlit.data``, ``fedlit.models``, ``fedlit.attention``,
``fedlit.algorithms``, ``fedlit.engines``, ``fedlit.optim`` and ``fedlit.federated``.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the list of public names: type checkers read it, and so does ``_homes``
    from fedlit import algorithms as algorithms
    from fedlit import attention as attention
    from fedlit import data as data
    from fedlit import engines as engines
    from fedlit import federated as federated
    from fedlit import models as models
    from fedlit import optim as optim
    from fedlit.algorithms import Algorithm as Algorithm
    from fedlit.algorithms import chain as chain
    from fedlit.core.errors import InputError as InputError
    from fedlit.data import EMNIST as EMNIST
    from fedlit.data import ByGroup as ByGroup
    from fedlit.data import Dirichlet as Dirichlet
    from fedlit.data import FederatedData as FederatedData
    from fedlit.data import MNIST5k as MNIST5k
    from fedlit.data import Partition as Partition
    from fedlit.data import Partitioner as Partitioner
    from fedlit.data import Shards as Shards
    from fedlit.data import Synthetic as Synthetic
    from fedlit.data import Tensors as Tensors
    from fedlit.data import TorchDataset as TorchDataset
    from fedlit.data import Uniform as Uniform
    from fedlit.engines import Engine as Engine
    from fedlit.federated import ClientModule as ClientModule
    from fedlit.federated import FederatedLoop as FederatedLoop
    from fedlit.federated import FederatedModule as FederatedModule
    from fedlit.models import MLP as MLP
    from fedlit.models import EmnistCNN as EmnistCNN

__version__ = "0.1.0"


def _homes() -> dict[str, str]:
    """From each name that is imported for type checkers to the package that it is imported from."""
    source = ast.parse(pkgutil.get_data(__name__, "__init__.py") or b"")
    imports = [node for node in ast.walk(source) if isinstance(node, ast.ImportFrom)]
    return {name.asname: node.module or "" for node in imports for name in node.names if name.asname}


_HOME_OF = _homes()
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    """Load a public name on first use: ``import fedlit`` itself loads no torch."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'fedlit' has no attribute {name!r}")
    if home == __name__:
        return importlib.import_module(f"{home}.{name}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
