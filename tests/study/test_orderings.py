"""What the FedProx paper reports of its synthetic data (Li et al. 2020, Section 5), on a shorter schedule.

The paper's own: ``python -m fedlit.study.fedprox``, 200 rounds of 20 local epochs.
"""

from __future__ import annotations

from functools import cache

from lightning import Callback, LightningModule, Trainer, seed_everything
from torch.optim import SGD

from fedlit.data import Synthetic
from fedlit.engines import LoopEngine
from fedlit.federated import Diagnostics, FederatedLoop, FederatedModule, PartialWork, Stragglers
from fedlit.models import SoftmaxRegression

ROUNDS, EPOCHS = 40, 5
SEEDS = (0, 1, 2)
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
        10, EPOCHS, stragglers=stragglers, engine=LoopEngine(), diagnostics=Diagnostics(every=1, gamma=False)
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
