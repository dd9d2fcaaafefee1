"""What is trained: the sizes of clients and cohorts, and which samples and steps that makes. Needs no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SEED = 0
LEARNING_RATE = 0.01
MU = 0.01
CLASSES = 47
WARMUP_ROUNDS = 1
#: All contenders are kept to as many, and those written by hand use as many.
CORES = 2


@dataclass(frozen=True)
class Workload:
    """A federation of synthetic grey images, one local epoch a round.

    Attributes:
        name: Its name on the command line and of its folder.
        clients: Number of clients.
        cohort: Clients a round.
        mean_size: Mean number of samples of a client.
        sigma: Standard deviation of the logarithm of the sizes; 0 gives every client ``mean_size``.
        least: Samples that every client has at least.
        batch: Samples of a mini-batch.
        net: ``cnn`` (two padded 3x3 convolutions of 32 and 64 channels, each with ReLU and 2x2 max-pool, 128 hidden
            units) or ``mlp`` (64 hidden units).
        side: Pixels a side.
        rounds: Timed rounds, after ``WARMUP_ROUNDS``.
        partition: Class in ``fedlit.data``. ``Uniform`` only for equal sizes.
        test_size: Held-out images, for contenders that validate.
    """

    name: str
    clients: int
    cohort: int
    mean_size: int
    batch: int
    net: str
    rounds: int
    sigma: float = 0.0
    least: int = 1
    side: int = 28
    partition: str = "ByGroup"
    test_size: int = 4700

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Samples of each client, (clients,)."""
        rng = np.random.default_rng(SEED)
        location = np.log(self.mean_size) - self.sigma**2 / 2  # the mean of a lognormal is exp(location + sigma^2/2)
        return np.maximum(np.rint(rng.lognormal(location, self.sigma, self.clients)).astype(np.int64), self.least)

    @property
    def flop_per_sample(self) -> int:
        """Floating-point operations of a training step for one sample; a multiplication and an addition are two.

        Forward, gradient of the weights and gradient of the inputs cost the same; the first layer's inputs need none.
        """
        first, rest = self._products
        return 2 * (2 * first + 3 * rest)

    @property
    def flop_per_test(self) -> int:
        """Floating-point operations of the forward pass of one sample."""
        return 2 * sum(self._products)

    @property
    def _products(self) -> tuple[int, int]:
        """Multiplications of the forward pass of one sample: in the first layer, and in all others."""
        if self.net == "mlp":
            return self.side**2 * 64, 64 * CLASSES
        half, quarter = self.side // 2, self.side // 4
        return self.side**2 * 9 * 32, half**2 * 9 * 32 * 64 + quarter**2 * 64 * 128 + 128 * CLASSES


W1 = Workload("w1", clients=100, cohort=10, mean_size=300, sigma=0.5, least=32, batch=32, net="cnn", rounds=4)
W2 = Workload("w2", clients=1000, cohort=100, mean_size=20, batch=10, net="mlp", rounds=10)


def population(clients: int) -> Workload:
    """Clients of 8 samples of 4x4 pixels, 100 a round: the same cohort from a population of any size."""
    return Workload(
        f"{clients} clients", clients, 100, mean_size=8, batch=8, net="mlp", rounds=10, side=4, partition="Uniform"
    )


def quick(workload: Workload) -> Workload:
    """The same on a small scale: to see that the benchmark works, not how fast anything is."""
    return replace(
        workload,
        clients=min(workload.clients, 5000),
        cohort=4,
        mean_size=min(workload.mean_size, 80),
        rounds=2,
        test_size=94,
    )


@dataclass(frozen=True)
class Plan:
    """A workload as every contender has to train it; ``data.npz`` in the same folder has the data.

    Attributes:
        workload: The workload.
        cohorts: The clients of each round, warm-up first.
        engines: Names of fedlit's engines.
    """

    workload: Workload
    cohorts: list[list[int]]
    engines: list[str]

    @property
    def samples(self) -> list[int]:
        """Training samples of each round."""
        return [int(self.workload.sizes[cohort].sum()) for cohort in self.cohorts]

    @property
    def steps(self) -> list[int]:
        """Optimizer steps of each round, over its clients."""
        return [int((-(-self.workload.sizes[cohort] // self.workload.batch)).sum()) for cohort in self.cohorts]

    def save(self, folder: Path) -> None:
        """Write ``plan.json``."""
        (folder / "plan.json").write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, folder: Path) -> Plan:
        """Read ``plan.json``."""
        stored = json.loads((folder / "plan.json").read_text())
        return cls(Workload(**stored["workload"]), stored["cohorts"], stored["engines"])
