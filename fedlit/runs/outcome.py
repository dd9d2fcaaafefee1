"""Writes the accuracy of a finished run's model by class and by client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from fedlit.clients.gradients import evaluating
from fedlit.core.tables import write_table
from fedlit.data.module import data_of
from fedlit.data.skew import skew_of_clients
from fedlit.federated.module import FederatedModule
from fedlit.runs.evaluation import class_accuracy, client_accuracy

CLASSES_CSV = "classes.csv"
CLIENTS_CSV = "clients.csv"


class Outcome(Callback):
    """Writes ``classes.csv`` and ``clients.csv`` for the final model into the run folder.

    ``classes.csv`` has the accuracy on held-out data in the last validated round. ``clients.csv`` has the accuracy on
    each client's own training data, which costs one forward pass over all of it, and the skew of the client's labels
    (``fedlit.data.skew.label_skew``). Both have a column ``round``, since a run may be resumed.

    Args:
        folder: The run's folder; None writes nothing, as on ranks other than the first.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._counts: tuple[Tensor, Tensor] | None = None  # correct predictions and samples of each class, (C,) each
        self._validated: int | None = None  # the round of these counts

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._counts = self._validated = None

    def on_validation_end(self, trainer: Trainer, pl_module: FederatedModule) -> None:  # type: ignore[override]
        self._counts = pl_module.scores.hits.cpu(), pl_module.scores.true.cpu()
        self._validated = trainer.global_step

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = self._folder
        if folder is None or not trainer.is_global_zero or self._counts is None:
            return
        assert isinstance(pl_module, FederatedModule)
        data, round = data_of(trainer), trainer.global_step
        hits, samples = (each.numpy() for each in self._counts)
        shares = class_accuracy(hits, samples).tolist()
        rows = (
            [self._validated or round, *row] for row in zip(data.class_names, samples.tolist(), shares, strict=True)
        )
        write_table(folder / CLASSES_CSV, ["round", "class", "samples", "accuracy"], rows)
        if not data.has_examples:  # the examples are at the clients
            return
        with evaluating(pl_module.to(trainer.strategy.root_device)):  # the strategy has moved the model to the CPU
            accuracies = client_accuracy(pl_module, data).tolist()
        pl_module.cpu()
        sizes = data.partition.sizes.tolist()
        skew = skew_of_clients(data).tolist()
        clients = ([round, *row] for row in zip(range(data.num_clients), sizes, accuracies, skew, strict=True))
        write_table(folder / CLIENTS_CSV, ["round", "client", "samples", "accuracy", "skew"], clients)

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self._counts, "round": self._validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._validated = state_dict.get("round")
        if "counts" in state_dict:
            self._counts = state_dict["counts"]
        elif (confusion := state_dict.get("confusion")) is not None:  # written by an earlier version
            self._counts = confusion.diag(), confusion.sum(1)
