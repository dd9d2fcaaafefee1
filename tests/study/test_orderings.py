"""What the FedProx paper reports of its synthetic data (Li et al. 2020, Section 5), in its first 50 rounds.

All 200: ``python -m fedlit.study.fedprox``.
"""

from __future__ import annotations

from functools import cache

import pytest
from lightning import Callback, LightningModule, Trainer, seed_everything
from torch.optim import SGD

from fedlit.data import Synthetic
from fedlit.engines import VectorizedEngine
from fedlit.federated import Diagnostics, FederatedLoop, FederatedModule, PartialWork, Stragglers
from fedlit.models import SoftmaxRegression

ROUNDS = 50
SEEDS = (0, 6, 9)  # whose 30 clients are the smallest of the first ten seeds: some 5,000 steps a round
DROPPED, PARTIAL = PartialWork(0.9, drop=True), PartialWork(0.9)


class Losses(Callback):
    """The training loss and the gradient variance of the model that each round starts from."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        metrics = pl_module.round_metrics
        self.rows.append((metrics["diagnostics/train_loss"], metrics["diagnostics/gradient_variance"]))


@cache
def final(seed: int, mu: float, iid: bool = False, stragglers: Stragglers | None = None) -> tuple[float, float]:
    """Training loss and gradient variance, means over the last ten rounds."""
    seed_everything(seed, verbose=False)
    spread = 0.0 if iid else 1.0
    losses = Losses()
    loop = FederatedLoop(
        10, 20, stragglers=stragglers, engine=VectorizedEngine(), diagnostics=Diagnostics(every=1, gamma=False)
    )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=ROUNDS,
        callbacks=[loop, losses],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    net = SoftmaxRegression(num_classes=10, in_channels=60, image_size=1)
    data = Synthetic(alpha=spread, beta=spread, iid=iid, batch_size=10, seed=seed)
    trainer.fit(FederatedModule(net, mu=mu, client_optimizer=lambda p: SGD(p, lr=0.01)), datamodule=data)
    last = losses.rows[-10:]
    return sum(loss for loss, _ in last) / 10, sum(variance for _, variance in last) / 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
class TestOrderings:
    def test_on_iid_data_a_proximal_term_slows_training(self, seed: int):
        assert final(seed, mu=1.0, iid=True)[0] > final(seed, mu=0.0, iid=True)[0]

    def test_on_heterogeneous_data_it_helps_and_clients_agree_more(self, seed: int):
        pulled, free = final(seed, mu=1.0), final(seed, mu=0.0)
        assert pulled[0] < free[0]
        assert pulled[1] < free[1]

    def test_with_stragglers_dropping_is_worst_and_a_proximal_term_best(self, seed: int):
        dropped = final(seed, mu=0.0, stragglers=DROPPED)[0]
        partial = final(seed, mu=0.0, stragglers=PARTIAL)[0]
        pulled = final(seed, mu=1.0, stragglers=PARTIAL)[0]
        assert pulled < partial < dropped
