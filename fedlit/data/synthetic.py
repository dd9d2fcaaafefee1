"""Synthetic(alpha, beta): federations of any size, with two parameters for their heterogeneity."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from fedlit.core.counts import share_of
from fedlit.core.errors import InputError
from fedlit.core.seeding import rng
from fedlit.data.examples import Examples
from fedlit.data.module import FederatedData
from fedlit.data.partition import Partitioner
from fedlit.data.partitioners import ByGroup

Reading = Literal["std", "variance"]
FloatArray = NDArray[np.floating[Any]]

NUM_FEATURES = 60
NUM_CLASSES = 10
MIN_SIZE = 50
#: With a greater spread, float32 cannot represent what clients have in common.
MAX_SPREAD = 1e6
#: The most clients; the examples of all of them take about 10 GB of memory.
MAX_CLIENTS = 100_000

#: Standard deviation of each feature around its client's mean, (60,): Sigma is diagonal with Sigma_jj = j^-1.2.
FEATURE_STD = np.arange(1, NUM_FEATURES + 1) ** -0.6


class Synthetic(FederatedData):
    """Synthetic(alpha, beta) of Li et al. 2020 (arXiv:1812.06127), Section 5.1 and Appendix C.1.

    Client k labels its own Gaussian inputs with its own linear model::

        n_k = int(lognormal(4, 2)) + 50
        u_k ~ N(0, alpha), B_k ~ N(0, beta)
        W_k (60, 10) and b_k (10,) ~ N(u_k, 1), v_k (60,) ~ N(B_k, 1)
        x ~ N(v_k, diag(j^-1.2)), y = argmax(x W_k + b_k)

    beta sets how much the clients' inputs differ. alpha should do so for their models, but u_k shifts all logits of an
    input by the same amount: at one seed the data are the same for every alpha. Clients also differ at
    alpha = beta = 0, in W_k and v_k; only with ``iid`` they do not.

    Draws are addressed by (seed, client): a client's examples do not depend on the number of clients, and at one seed
    all settings have the same client sizes and use the same normal variates. Inputs are float32, (N, 60), not images:
    the paper's model for them is ``fedlit.models.SoftmaxRegression`` with ``image_size: 1``.

    Args:
        alpha: Spread of the models' means u_k, >= 0.
        beta: Spread of the inputs' means B_k, >= 0.
        iid: Whether all clients have one W, b ~ N(0, 1), and v = 0; it requires ``alpha`` and ``beta`` of 0.
        reading: Whether ``alpha`` and ``beta`` are standard deviations (``std``), as in the authors' published code, or
            variances (``variance``), as in their text. There is no difference at 0 and 1.
        test_fraction: Fraction of every client's examples held out for testing, in (0, 1), rounded down.
        partition: As for `FederatedData`; None is ``fedlit.data.ByGroup``, which keeps the clients as they are.
        num_clients: Number of clients.
        **kwargs: The other arguments of `FederatedData`.

    Raises:
        InputError: If an argument is out of range, or ``iid`` is combined with an ``alpha`` or ``beta`` other than 0.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 1.0,
        iid: bool = False,
        reading: Reading = "std",
        test_fraction: float = 0.1,
        partition: Partitioner | None = None,
        num_clients: int = 30,
        **kwargs: Any,
    ) -> None:
        super().__init__(partition=partition or ByGroup(), num_clients=num_clients, **kwargs)
        for name, value in {"alpha": alpha, "beta": beta}.items():
            if not 0 <= value <= MAX_SPREAD:
                raise InputError(f"{name} must be from 0 to {MAX_SPREAD:g}, got {value}; the paper has 0, 0.5 and 1")
        if num_clients > MAX_CLIENTS:
            raise InputError(f"num_clients must be at most {MAX_CLIENTS:,} here, got {num_clients}; the paper has 30")
        if iid and (alpha or beta):
            raise InputError(f"iid requires alpha = beta = 0, got {alpha} and {beta}; set both to 0 or leave iid out")
        if reading not in get_args(Reading):
            raise InputError(f"reading must be {' or '.join(get_args(Reading))}, got {reading}; std is the default")
        if not 0 < test_fraction < 1:
            raise InputError(f"test_fraction must be between 0 and 1, got {test_fraction}; the paper holds out 0.1")
        self.alpha = alpha
        self.beta = beta
        self.iid = iid
        self.reading = reading
        self.test_fraction = test_fraction

    @property
    def class_names(self) -> list[str]:
        """The class numbers."""
        return [str(label) for label in range(NUM_CLASSES)]

    @property
    def in_channels(self) -> int:
        """The number of features."""
        return NUM_FEATURES

    def load(self) -> tuple[Examples, Examples]:
        """See `FederatedData.load`."""
        clients = range(self._requested_clients or self.num_clients)
        sizes = np.array([self.client_size(k) for k in clients])  # (K,)
        inputs, targets = map(np.concatenate, zip(*map(self.client_examples, clients), strict=True))
        examples = Examples(torch.from_numpy(inputs), torch.from_numpy(targets), np.repeat(clients, sizes))
        # A client's examples are in random order, so the last ones are a random test set.
        left = np.concatenate([np.arange(n, 0, -1) for n in sizes])  # (N,), 1 at a client's last
        is_test = left <= np.repeat(share_of(sizes, self.test_fraction), sizes)
        return examples.take(np.flatnonzero(~is_test)), examples.take(np.flatnonzero(is_test))

    def client_size(self, client: int) -> int:
        """Number of a client's examples, for training and testing together."""
        return int(rng(self.seed, "synthetic size", client).lognormal(4, 2)) + MIN_SIZE

    def client_model(self, client: int) -> tuple[FloatArray, FloatArray]:
        """W_k, (60, 10), and b_k, (10,), which label a client's inputs."""
        draw = rng(self.seed, "synthetic model") if self.iid else rng(self.seed, "synthetic model", client)
        mean = self._std(self.alpha) * draw.standard_normal()
        return mean + draw.standard_normal((NUM_FEATURES, NUM_CLASSES)), mean + draw.standard_normal(NUM_CLASSES)

    def client_examples(self, client: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """A client's inputs, (n_k, 60), and their labels, (n_k,)."""
        draw = rng(self.seed, "synthetic inputs", client)
        mean = self._std(self.beta) * draw.standard_normal() + draw.standard_normal(NUM_FEATURES)  # (60,)
        noise = FEATURE_STD * draw.standard_normal((self.client_size(client), NUM_FEATURES))
        inputs = (noise if self.iid else mean + noise).astype(np.float32)
        weights, offsets = self.client_model(client)
        return inputs, (inputs @ weights + offsets).argmax(1)

    def _std(self, spread: float) -> float:
        return spread if self.reading == "std" else math.sqrt(spread)
