"""Federated learning as a Lightning training run.

It has the most important public names, which are loaded on first use: ``fedlit.FederatedModule`` is
``fedlit.federated.FederatedModule``. Others are in ``fedlit.data``, ``fedlit.models``, ``fedlit.attention``,
``fedlit.algorithms``, ``fedlit.engines``, ``fedlit.optim`` and ``fedlit.federated``.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the list of public names, read by type checkers and by ``_modules_by_name``
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


def _modules_by_name() -> dict[str, str]:
    """The module of each public name, from the imports for type checkers."""
    source = ast.parse(pkgutil.get_data(__name__, "__init__.py") or b"")
    imports = [node for node in ast.walk(source) if isinstance(node, ast.ImportFrom)]
    return {name.asname: node.module or "" for node in imports for name in node.names if name.asname}


_MODULE_OF = _modules_by_name()
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that ``import fedlit`` does not import torch."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'fedlit' has no attribute {name!r}")
    if module == __name__:
        return importlib.import_module(f"{module}.{name}")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
