"""Accuracy with 0, 10 and 30 % attackers, by robust average: ``python -m tests.benchmarks.attackers``.

20 clients of 200 of the bundled MNIST digits, all in every round, an MLP of 32 hidden units, 10 rounds of one local
epoch, one seed; a minute or two on one core. Each rule is set for 6 attackers, whatever their number. Sign flip sends
-10 times the update, scaled -1000 times, noise a normal vector of deviation 100; label flip trains on 9 - y for y.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Callable

import torch
from torch.optim import SGD

from fedlit.algorithms import ClippedMean, CoordinateMedian, Krum, TrimmedMean
from fedlit.data import Dirichlet, MNIST5k, Uniform
from fedlit.engines import LoopEngine
from fedlit.federated import Algorithm, FederatedLoop
from fedlit.models import MLP
from tests.attackers import NOISE, SCALED, SIGN_FLIP, Attack, attacked, label_flip
from tests.federations import fit

CLIENTS = 20
ATTACKS = {"sign flip": SIGN_FLIP, "scaled": SCALED, "label flip": label_flip(10), "noise": NOISE}
RULES: dict[str, Callable[[], Algorithm]] = {
    "mean": Algorithm,
    "median": CoordinateMedian,
    "trimmed mean": lambda: TrimmedMean(0.3),
    "clipped mean": ClippedMean,
    "Krum": lambda: Krum(6),
    "multi-Krum": lambda: Krum(6, multi=12),
}


def accuracy(attack: Attack, attackers: int, rule: Algorithm, alpha: float | None) -> float:
    """Held-out accuracy of the global model after the last round."""
    torch.manual_seed(0)
    net = MLP(hidden=[32], num_classes=10)
    module = attacked(attack, range(attackers))(net, mu=0.0, client_optimizer=lambda p: SGD(p, lr=0.1))
    loop = FederatedLoop(CLIENTS, 1, seed=0, algorithm=rule, engine=LoopEngine(), max_rejected=1)
    partition = Dirichlet(alpha) if alpha else Uniform()
    fit(module, loop, MNIST5k(partition=partition, num_clients=CLIENTS, batch_size=20, seed=0), rounds=10)
    return float(module.trainer.callback_metrics["global/accuracy"])


def main() -> None:
    """Write the table, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alpha", type=float, help="Dirichlet label skew; none is an even split")
    alpha = parser.parse_args().alpha
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # of the updates that the attacks make infinite, among others
    cases = [("none", Attack(), 0), *((name, attack, n) for name, attack in ATTACKS.items() for n in (2, 6))]
    sys.stdout.write(f"| attack | attackers | {' | '.join(RULES)} |\n|---|---:|{'---:|' * len(RULES)}\n")
    for name, attack, attackers in cases:
        row = " | ".join(f"{accuracy(attack, attackers, rule(), alpha):.3f}" for rule in RULES.values())
        sys.stdout.write(f"| {name} | {attackers / CLIENTS:.0%} | {row} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
