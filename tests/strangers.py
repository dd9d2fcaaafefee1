"""Classes of a user's own, one for each kind of part, all of whose defaults differ from those of our classes.

They share the names of arguments with ours. Each remembers what it was built with in ``built``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from torch import Tensor, nn

from fedlit.algorithms import TrimmedMean
from fedlit.data import MNIST5k, Partitioner, Uniform
from fedlit.engines import LoopEngine
from fedlit.federated import ConstantMu, Diagnostics, NoStragglers, Stragglers, UniformSampling
from fedlit.optim import FedAdam


class Gate(nn.Module):
    def __init__(self, channels: int, reduction: int = 3, min_hidden: int = 2, kernel_size: int = 5) -> None:
        super().__init__()
        self.built = {"reduction": reduction, "min_hidden": min_hidden, "kernel_size": kernel_size}

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


class Net(nn.Module):
    def __init__(
        self,
        hidden: int = 300,
        dropout: float = 0.5,
        norm: str = "layer",
        image_size: int = 32,
        widths: tuple[int, ...] = (7,),
        num_classes: int = 3,
        attention: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        sizes = {"hidden": hidden, "dropout": dropout, "norm": norm, "image_size": image_size, "widths": widths}
        self.built = {**sizes, "num_classes": num_classes, "attention": attention}
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, num_classes))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs)  # type: ignore[no-any-return]


class GatedNet(Net):
    """One whose own default is a gate with arguments."""

    def __init__(
        self, attention: Callable[[int], nn.Module] = lambda channels: Gate(channels, reduction=9), **kwargs: Any
    ) -> None:
        super().__init__(attention=attention, **kwargs)


class Needy(nn.Module):
    """One that must be told the number of classes, and takes no channels."""

    def __init__(self, num_classes: int, hidden: int = 300) -> None:
        super().__init__()
        self.built = {"num_classes": num_classes, "hidden": hidden}
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, num_classes))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs)  # type: ignore[no-any-return]


class Incurious(Needy):
    """One that takes neither classes nor channels."""

    def __init__(self, hidden: int = 300) -> None:
        super().__init__(10, hidden)


def net(hidden: int = 300, num_classes: int = 3, **kwargs: Any) -> Net:
    """A function that makes a net."""
    return Net(hidden=hidden, num_classes=num_classes, **kwargs)


class Data(MNIST5k):
    def __init__(
        self,
        partition: Partitioner | None = None,
        num_clients: int | None = 6,
        batch_size: int = 8,
        eval_batch_size: int | None = 11,
        seed: int | None = 4,
        client_holdout: float = 0.1,
        validation_clients: int = 1,
    ) -> None:
        self.built = {"num_clients": num_clients, "batch_size": batch_size, "eval_batch_size": eval_batch_size}
        self.built |= {"seed": seed, "client_holdout": client_holdout, "validation_clients": validation_clients}
        super().__init__(partition, num_clients, batch_size, eval_batch_size, seed, client_holdout, validation_clients)


class Partition(Uniform):
    def __init__(self, alpha: float = 3.0, min_samples: int = 2) -> None:
        self.built = {"alpha": alpha, "min_samples": min_samples}


class Trimmed(TrimmedMean):
    def __init__(self, fraction: float = 0.2) -> None:
        super().__init__(fraction)
        self.built = {"fraction": fraction}


class Engine(LoopEngine):
    def __init__(self, block_size: int = 7, workers: int | None = 3) -> None:
        self.built = {"block_size": block_size, "workers": workers}


class Optimizer(FedAdam):
    """Shares its arguments with SGD, Adam and ours."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 0.7,
        beta1: float = 0.2,
        beta2: float = 0.3,
        tau: float = 0.4,
        momentum: float = 0.6,
        nesterov: bool = True,
    ) -> None:
        super().__init__(params, lr, beta1, beta2, tau)
        self.built = {"lr": lr, "beta1": beta1, "beta2": beta2, "tau": tau, "momentum": momentum, "nesterov": nesterov}


class Lossy(nn.CrossEntropyLoss):
    def __init__(self, label_smoothing: float = 0.2, ignore_index: int = -3) -> None:
        super().__init__(label_smoothing=label_smoothing, ignore_index=ignore_index)
        self.built = {"label_smoothing": label_smoothing, "ignore_index": ignore_index}


class Draws(UniformSampling):
    def __init__(self, kind: Literal["a", "b"] = "b") -> None:
        self.built = {"kind": kind}


class Slow(NoStragglers):
    def __init__(self, fraction: float = 0.9, drop: bool = True, share: float = 0.1) -> None:
        self.built = {"fraction": fraction, "drop": drop, "share": share}


class Rule(ConstantMu):
    def __init__(self, start: float = 0.3, step: float = 0.5, patience: int = 9, mu: float = 0.8) -> None:
        super().__init__(mu)
        self.built = {"start": start, "step": step, "patience": patience, "mu": mu}


class Measures(Diagnostics):
    def __init__(self, every: int = 3, gamma: bool = False, dissimilarity: bool = False) -> None:
        super().__init__(every, gamma, dissimilarity)
        self.built = {"every": every, "gamma": gamma, "dissimilarity": dissimilarity}


assert issubclass(Slow, Stragglers)
