"""Small federations for tests: made in a second, trained in a few."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import Precision
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import SGD

from fedlit.algorithms import Facts
from fedlit.core.layout import Layout
from fedlit.data import ByGroup, Tensors
from fedlit.engines import Site
from fedlit.federated import FederatedLoop, FederatedModule, Mu, Stragglers, UniformSampling
from fedlit.federated.session import Session
from fedlit.models import EmnistCNN
from fedlit.mu import ConstantMu

SIZES = (9, 4, 17, 1, 12, 6)


def data(sizes: tuple[int, ...] = SIZES, batch_size: int = 4, features: int = 5, **kwargs: Any) -> Tensors:
    """One client for each size, three classes, float inputs (N, features)."""
    rng = np.random.default_rng(3)
    n = sum(sizes)
    labels = rng.integers(0, 3, n)
    inputs = rng.normal(size=(n, features)).astype(np.float32) + labels[:, None].astype(np.float32)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    return Tensors(
        train=(inputs, labels, groups),
        test=(inputs[:20], labels[:20]),
        class_names=["a", "b", "c"],
        partition=ByGroup(),
        batch_size=batch_size,
        seed=0,
        **kwargs,
    )


def net(seed: int = 0, features: int = 5, dropout: float = 0.0, norm: bool = False) -> nn.Sequential:
    """A small MLP with, on request, dropout and BatchNorm."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Linear(features, 8)]
    if norm:
        layers.append(nn.BatchNorm1d(8))
    return nn.Sequential(*layers, nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3))


def images(sizes: tuple[int, ...] = SIZES) -> Tensors:
    """One client for each size, three classes, images of 8 x 8."""
    generator = torch.Generator().manual_seed(5)
    n = sum(sizes)
    inputs = torch.randint(0, 256, (n, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.arange(n) % 3
    groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return Tensors(
        train=(inputs, labels, groups), test=(inputs[:8], labels[:8]), partition=ByGroup(), batch_size=4, seed=0
    )


def cnn(gate: Callable[[int], nn.Module] | None = None, **options: Any) -> EmnistCNN:
    """A small network for ``images``."""
    torch.manual_seed(0)
    return EmnistCNN(gate, num_classes=3, image_size=8, widths=(4, 8), hidden=16, **options)


def fit(
    module: FederatedModule | None = None,
    loop: FederatedLoop | None = None,
    datamodule: Tensors | None = None,
    rounds: int = 2,
    root: Path | None = None,
    ckpt_path: Path | None = None,
    **trainer: Any,
) -> FederatedModule:
    """Run a federation quietly and give back its module."""
    if module is None:
        module = FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=0.1))
    loop = loop or FederatedLoop(clients_per_round=4, seed=0)
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": root is not None,
        "num_sanity_val_steps": 0,
        "default_root_dir": root,
    }
    runner = Trainer(max_epochs=rounds, callbacks=[loop, *trainer.pop("callbacks", [])], **(settings | trainer))
    runner.fit(module, datamodule=datamodule or data(), ckpt_path=ckpt_path, weights_only=True)
    return module


class Watch(Callback):
    """Remembers the session of the last fit, which the loop itself forgets."""

    session: Session

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, FederatedModule)
        self.session = pl_module.loop.session


def two_ranks() -> dict[str, Any]:
    """Arguments of a Trainer that make it two forked processes; this one learns the results by files."""
    return {"strategy": "ddp_fork", "devices": 2}


def table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def site(**kwargs: Any) -> Site:
    """A CPU in full precision with the data of a small federation."""
    federation = data(**kwargs)
    federation.setup()
    return Site(federation, torch.device("cpu"), Precision())


def facts(net: nn.Module, **changed: Any) -> Facts:
    """What an algorithm is told of a federation of ten clients, four a round."""
    known: dict[str, Any] = {
        "layout": Layout.of(net),
        "net": net,
        "optimizer": SGD(net.parameters(), lr=0.1),
        "mu": ConstantMu(),
        "clip_norm": None,
        "num_clients": 10,
        "clients_per_round": 4,
        "sampling": UniformSampling(),
        "averaging": "uniform",
        "seed": 0,
    }
    return Facts(**(known | changed))


def weights(module: nn.Module) -> Tensor:
    """All of a module's state in one float64 vector."""
    return torch.cat([t.double().reshape(-1) for t in module.state_dict().values()])


class Absent(Stragglers):
    """Some clients do nothing at all."""

    def __init__(self, *clients: int) -> None:
        self.clients = clients

    def work(self, clients: NDArray[np.int64], epochs: float, seed: int, round: int) -> NDArray[np.float64]:
        return np.where(np.isin(clients, self.clients), 0.0, epochs)


class Displacement(nn.Module):
    """w - x for inputs x, with w in R^3 from 0: with ``HalfSquare`` the client of points a has F(w) = 1/2 |w - a|^2."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.w - inputs


class HalfSquare(nn.Module):
    """1/2 |logits|^2, mean over samples."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return 0.5 * logits.square().sum(1).mean()


def quadratics(points: list[list[float]], sizes: tuple[int, ...] | None = None, **kwargs: Any) -> Tensors:
    """Client k has ``sizes[k]`` copies of ``points[k]``: F_k(w) = 1/2 |w - a_k|^2, and every step is a full one."""
    sizes = sizes or (1,) * len(points)
    inputs = np.repeat(np.array(points, dtype=np.float32), sizes, axis=0)
    labels = np.arange(len(inputs)) % 3
    return Tensors(
        train=(inputs, labels, np.repeat(np.arange(len(sizes)), sizes)),
        test=(inputs, labels),
        class_names=["a", "b", "c"],
        partition=ByGroup(),
        batch_size=1000,
        seed=0,
        **kwargs,
    )


def quadratic_module(mu: float | Mu = 0.0, lr: float = 0.1, **kwargs: Any) -> FederatedModule:
    """The server of ``quadratics``."""
    return FederatedModule(Displacement(), mu=mu, client_optimizer=lambda p: SGD(p, lr=lr), loss=HalfSquare(), **kwargs)
