"""The tables that ``fedlit test`` and ``fedlit predict`` write."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning import Trainer
from numpy.typing import NDArray
from rich.table import Table

from fedlit.core.files import atomic_write
from fedlit.core.tables import write_table
from fedlit.core.terminal import Terminal
from fedlit.data.examples import Batches
from fedlit.data.module import FederatedData, data_of
from fedlit.federated.meter import spread
from fedlit.federated.module import FederatedModule


def class_accuracy(hits: NDArray[np.int64], true: NDArray[np.int64]) -> NDArray[np.float64]:
    """Accuracy (recall) of each class (C,) from its correct predictions and samples; NaN for a class without
    samples."""
    with np.errstate(invalid="ignore"):
        return np.asarray(hits / true, dtype=np.float64)


def is_chance(hits: NDArray[Any], true: NDArray[Any]) -> bool:
    """Whether an accuracy is no better than always predicting the most frequent class, within two standard errors.

    Args:
        hits: Correct predictions of each class (C,).
        true: Samples of each class (C,). With samples of fewer than two classes the answer is False.
    """
    total = float(true.sum())
    share = float(true.max(initial=0)) / total if total else 1.0
    return share < 1 and float(hits.sum()) / total <= share + 2 * math.sqrt(share * (1 - share) / total)


@torch.no_grad()
def client_accuracy(module: FederatedModule, data: FederatedData) -> NDArray[np.float64]:
    """Accuracy (K,) of the global model on each client's own training data; NaN for a client whose data are not here.

    One pass over the training set in the partition's order, so the cost does not depend on the number of clients.
    """
    if not data.has_examples:
        return np.full(data.num_clients, np.nan)
    order = torch.from_numpy(data.partition.order)
    batches = Batches(data.train, data.eval_batch_size, order, transform=data.transform)
    hits = torch.cat([(module(x).argmax(-1) == y).cpu() for x, y in batches]).numpy()  # (N,)
    before = np.concatenate(([0], np.cumsum(hits)))  # (N+1,)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.diff(before[data.partition.offsets]) / data.partition.sizes)


def write_test(trainer: Trainer, folder: Path, show: bool = True) -> None:
    """Write ``test.json``, ``test_classes.csv`` and ``test_clients.csv``, and ``show`` the test's results."""
    if not trainer.is_global_zero:
        return
    module: FederatedModule = trainer.lightning_module  # type: ignore[assignment]
    data: FederatedData = data_of(trainer)
    data.to(module.device)
    module.eval()
    classes = class_accuracy(module.scores.hits.cpu().numpy(), module.scores.true.cpu().numpy())
    clients = client_accuracy(module, data)
    known = clients[~np.isnan(clients)]
    summary = {name.removeprefix("global/"): float(value) for name, value in trainer.callback_metrics.items()}
    if len(known):
        summary |= {name: float(value) for name, value in spread("clients_accuracy", known).items()}
    with atomic_write(folder / "test.json") as file:
        file.write(json.dumps(summary, indent=2) + "\n")
    write_table(
        folder / "test_classes.csv", ["class", "accuracy"], zip(data.class_names, classes.tolist(), strict=True)
    )
    sizes = data.partition.sizes.tolist()
    rows = zip(range(data.num_clients), sizes, clients.tolist(), strict=True)
    write_table(folder / "test_clients.csv", ["client", "samples", "accuracy"], rows)
    if show:
        _show(summary, data.class_names, classes, folder)


def write_predictions(trainer: Trainer, folder: Path) -> None:
    """Write ``predictions.csv``: for each test sample its index, true class, predicted class and its probability."""
    data: FederatedData = data_of(trainer)
    path = folder / "predictions.csv"
    probabilities = torch.cat(trainer.predict_loop.predictions).float().cpu()  # (N, C)
    confidence, predicted = probabilities.max(-1)
    share = cast(Batches, trainer.predict_dataloaders).indices  # of this rank
    indices = torch.arange(len(data.test)) if share is None else share
    indices = indices[: len(predicted)]  # with a limit, only the first samples are predicted
    targets = data.test.targets.cpu()[indices]
    if trainer.world_size > 1:
        path = path.with_stem(f"predictions_rank{trainer.global_rank}")
    if trainer.is_global_zero:
        remove_other_predictions(folder, trainer.world_size)
    names = data.class_names
    rows = (
        (index, names[target], names[guess], f"{sure:.6f}")
        for index, target, guess, sure in zip(
            indices.tolist(), targets.tolist(), predicted.tolist(), confidence.tolist(), strict=True
        )
    )
    write_table(path, ["index", "true", "predicted", "probability"], rows)
    Terminal().print(f"predictions: {path}")


def remove_other_predictions(folder: Path, ranks: int) -> None:
    """Remove earlier predictions that this call does not replace, as they were written by another number of ranks.

    They may belong to another checkpoint, and would be mistaken for a part of the new predictions.
    """
    written = {f"predictions_rank{rank}.csv" for rank in range(ranks)} if ranks > 1 else {"predictions.csv"}
    for file in folder.glob("predictions*.csv"):
        if re.fullmatch(r"predictions(_rank\d+)?\.csv", file.name) and file.name not in written:
            file.unlink()


def _show(summary: dict[str, float], names: Sequence[str], classes: NDArray[np.float64], folder: Path) -> None:
    table = Table("on the test set", "", title_justify="left")
    for name in ("accuracy", "loss", "f1_macro"):
        table.add_row(name, f"{summary[name]:.4f}")
    order = np.argsort(classes)
    for label, chosen in (("hardest classes", order[:5]), ("easiest classes", order[::-1][:5])):
        table.add_row(label, "  ".join(f"{names[c]} {classes[c]:.2f}" for c in chosen))
    if "clients_accuracy_mean" in summary:
        table.add_section()
        table.add_row("on each client's own data", "")
        table.add_row(
            "accuracy, mean ± std", f"{summary['clients_accuracy_mean']:.4f} ± {summary['clients_accuracy_std']:.4f}"
        )
        table.add_row(
            "worst and best tenth", f"{summary['clients_accuracy_p10']:.4f}, {summary['clients_accuracy_p90']:.4f}"
        )
    console = Terminal()
    console.print(table)
    console.print(f"per class and per client: {folder / 'test_classes.csv'}, {folder / 'test_clients.csv'}")
