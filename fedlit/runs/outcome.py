"""How a finished run's model does, class by class and client by client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from fedlit.data.module import data_of
from fedlit.federated.gradients import evaluating
from fedlit.federated.module import FederatedModule
from fedlit.runs.evaluation import class_accuracy, client_accuracy, write_table

CLASSES = "classes.csv"
CLIENTS = "clients.csv"


class Outcome(Callback):
    """Writes ``classes.csv`` and ``clients.csv`` into the run folder at the end: the model after the last round.

    By class it is the accuracy on the held-out data of each round, from the last round's confusion matrix. By client it
    is the accuracy on the client's own training data, at the cost of one forward pass over all of it. Both name the
    round, as a run may be gone on with.
    """

    def __init__(self) -> None:
        self._confusion: Tensor | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: FederatedModule) -> None:  # type: ignore[override]
        self._confusion = pl_module.confusion_matrix.cpu()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = trainer.log_dir
        if folder is None or not trainer.is_global_zero or self._confusion is None:
            return
        assert isinstance(pl_module, FederatedModule)
        data, round = data_of(trainer), trainer.global_step
        counts, shares = self._confusion.sum(1).tolist(), class_accuracy(self._confusion.numpy()).tolist()
        rows = ([round, *row] for row in zip(data.class_names, counts, shares, strict=True))
        write_table(Path(folder) / CLASSES, ["round", "class", "samples", "accuracy"], rows)
        with evaluating(pl_module.to(trainer.strategy.root_device)):  # the strategy has taken the model off it
            accuracies = client_accuracy(pl_module, data).tolist()
        pl_module.cpu()
        sizes = data.partition.sizes.tolist()
        clients = ([round, *row] for row in zip(range(data.num_clients), sizes, accuracies, strict=True))
        write_table(Path(folder) / CLIENTS, ["round", "client", "samples", "accuracy"], clients)

    def state_dict(self) -> dict[str, Any]:
        return {"confusion": self._confusion}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._confusion = state_dict["confusion"]
