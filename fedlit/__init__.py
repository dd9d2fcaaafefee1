"""Federated learning as a Lightning training run.

The names that users need, loaded when they are first used: ``fedlit.FederatedModule`` is
``fedlit.federated.FederatedModule``. More of each kind is in ``fedlit.data``, ``fedlit.models``, ``fedlit.attention``,
``fedlit.algorithms``, ``fedlit.engines``, ``fedlit.optim`` and ``fedlit.federated``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedlit.algorithms import Algorithm, chain
    from fedlit.core.errors import InputError
    from fedlit.data import (
        EMNIST,
        ByGroup,
        Dirichlet,
        FederatedData,
        MNIST5k,
        Partition,
        Partitioner,
        Shards,
        Synthetic,
        Tensors,
        TorchDataset,
        Uniform,
    )
    from fedlit.engines import Engine
    from fedlit.federated import ClientModule, FederatedLoop, FederatedModule
    from fedlit.models import MLP, EmnistCNN

#: Where each name lives.
_HOMES = {
    "fedlit.algorithms": ("Algorithm", "chain"),
    "fedlit.data": (
        "ByGroup",
        "Dirichlet",
        "EMNIST",
        "FederatedData",
        "MNIST5k",
        "Partition",
        "Partitioner",
        "Shards",
        "Synthetic",
        "Tensors",
        "TorchDataset",
        "Uniform",
    ),
    "fedlit.engines": ("Engine",),
    "fedlit.core.errors": ("InputError",),
    "fedlit.federated": ("ClientModule", "FederatedLoop", "FederatedModule"),
    "fedlit.models": ("EmnistCNN", "MLP"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_PACKAGES = ("algorithms", "attention", "data", "engines", "federated", "models", "optim")

__all__ = [
    "EMNIST",
    "MLP",
    "Algorithm",
    "ByGroup",
    "ClientModule",
    "Dirichlet",
    "EmnistCNN",
    "Engine",
    "FederatedData",
    "FederatedLoop",
    "FederatedModule",
    "InputError",
    "MNIST5k",
    "Partition",
    "Partitioner",
    "Shards",
    "Synthetic",
    "Tensors",
    "TorchDataset",
    "Uniform",
    "chain",
]


def __getattr__(name: str) -> Any:
    """Load a public name, or a package of names, on first use: ``import fedlit`` itself loads no torch."""
    if name in _PACKAGES:
        return importlib.import_module(f"fedlit.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'fedlit' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PACKAGES})
