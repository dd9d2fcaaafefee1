"""``python -m tests.benchmarks.api ENGINE FOLDER``: fedlit from Python with one engine; no evaluation, no logging."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer, seed_everything
from torch.optim import SGD

import fedlit.data
import fedlit.engines
from fedlit.algorithms import Algorithm
from fedlit.federated import FederatedLoop, FederatedModule
from fedlit.models import MLP, EmnistCNN
from tests.benchmarks.clock import RoundClock
from tests.benchmarks.workloads import CLASSES, LEARNING_RATE, MU, SEED, Plan


def run(
    plan: Plan,
    folder: Path,
    engine: fedlit.engines.Engine | None,
    callback: Callback,
    algorithm: Algorithm | None = None,
    keeps_in: Path | None = None,
    **settings: Any,
) -> FederatedModule:
    """Fit the plan on a CPU, or as ``settings`` of the Trainer say; no engine is fedlit's choice.

    What clients keep goes below ``keeps_in``.
    """
    workload = plan.workload
    seed_everything(SEED, verbose=False)
    net = {"cnn": EmnistCNN, "mlp": MLP}[workload.net](num_classes=CLASSES, image_size=workload.side)
    module = FederatedModule(net, mu=MU, client_optimizer=lambda parameters: SGD(parameters, lr=LEARNING_RATE))
    data = fedlit.data.Tensors(
        path=str(folder / "data.npz"),
        partition=getattr(fedlit.data, workload.partition)(),
        num_clients=workload.clients,
        batch_size=workload.batch,
    )
    loop = FederatedLoop(workload.cohort, local_epochs=1, engine=engine, algorithm=algorithm)
    loop.folder = keeps_in
    trainer = Trainer(
        **{"accelerator": "cpu", "devices": 1} | settings,
        max_epochs=len(plan.cohorts),
        callbacks=[loop, callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=data)
    return module


def main(engine: str, folder: Path) -> None:
    """Run one engine."""
    run(Plan.load(folder), folder, getattr(fedlit.engines, engine)(), RoundClock())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
