"""Checks of the Trainer's other callbacks: which of Lightning's are refused, and which metrics can be monitored."""

from __future__ import annotations

from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING

from lightning import Callback, Trainer
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    BatchSizeFinder,
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelPruning,
    SpikeDetection,
    StochasticWeightAveraging,
)
from lightning.pytorch.utilities import rank_zero_info

from fedlit.core.checkpoint import CheckpointFile, check_data
from fedlit.core.errors import InputError
from fedlit.core.layout import read_state
from fedlit.core.origin import is_fedlit_class
from fedlit.core.records import ClientTask, ClientUpdate
from fedlit.data.module import data_of
from fedlit.federated.meter import RoundMeter
from fedlit.mu import AdaptiveMu

if TYPE_CHECKING:
    from fedlit.federated.module import FederatedModule

#: Callbacks that cannot be used in a federation, with the reason and the remedy.
REFUSED: dict[type[Callback], str] = {
    BaseFinetuning: "freezes parameters during training, but which parameters clients train is fixed at the start; "
    "freeze them in the net by requires_grad_(False)",
    BatchSizeFinder: "tries batch sizes on the server, which has no batches; give data.batch_size",
    GradientAccumulationScheduler: "accumulates batches for a step, but a round is one batch and one step; remove it",
    LearningRateFinder: "tries learning rates on the server; set model.client_optimizer.lr, or choose it by a study",
    ModelPruning: "renames the net's parameters during training; prune the net of the finished run",
    SpikeDetection: "looks for spikes in the server's training loss, which does not exist; let EarlyStopping monitor "
    "clients/train_loss",
    StochasticWeightAveraging: "changes the server's learning rate, and trains another round for BatchNorm; use "
    "EMAWeightAveraging, which averages the global model",
}


#: Metrics of a round's duration.
TIME_METRICS = ("round/seconds", "round/samples_per_second")


def check_callbacks(trainer: Trainer) -> None:
    """Refuse callbacks that cannot be used in a federation, before any of them does anything.

    Raises:
        InputError: Naming the first, the reason and the remedy.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        for refused, reason in REFUSED.items():
            if isinstance(callback, refused):
                raise InputError(f"trainer.callbacks: {type(callback).__name__} {reason}")


def check_states(trainer: Trainer) -> None:
    """Refuse a callback whose state a checkpoint cannot hold, if that is known before the first round.

    Raises:
        InputError: Naming the callback and the part of its state.
    """
    if not trainer.checkpoint_callbacks or not isinstance(trainer.strategy.checkpoint_io, CheckpointFile):
        return
    states = {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        with suppress(Exception):  # it may fail before the first round; saving checks it again
            states[callback.state_key] = callback.state_dict()
    check_data({"callbacks": states})


def check_monitored(module: FederatedModule) -> None:
    """Refuse a callback that monitors a metric that no round will have.

    Nothing is refused if the module or a callback is a user's own, as it may log metrics that are not known yet.

    Raises:
        InputError: Naming the metric and the available ones.
    """
    callbacks: list[Callback] = module.trainer.callbacks  # type: ignore[attr-defined]
    known = ("fedlit.", "lightning.", "pytorch_lightning.")
    if not all(type(each).__module__.startswith(known) for each in (module, *callbacks)):
        return
    names = metric_names(module)
    for callback in callbacks:
        if is_fedlit_class(callback):
            continue  # the best checkpoint waits for a round that is validated
        monitored = getattr(callback, "monitor", None)
        if monitored is not None and monitored not in (*names, "epoch", "step"):
            raise InputError(
                f"trainer.callbacks: {type(callback).__name__} monitors {monitored!r}, which no round has; available "
                f"metrics are {_listed(names)}"
            )


def monitor_of_clients(trainer: Trainer) -> str | None:
    """A clause that names a callback which fails in a round in which no client trains, if there is one."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        monitored = getattr(callback, "monitor", None)
        is_of_clients = isinstance(monitored, str) and monitored.startswith(("clients/", "drift/"))
        if is_of_clients and getattr(callback, "strict", True) and not is_fedlit_class(callback):
            return f"{type(callback).__name__} monitors {monitored!r}"
    return None


def stop_again(module: FederatedModule) -> None:
    """Stop a resumed fit that ``EarlyStopping`` had stopped after its last round; with other arguments it goes on.

    A checkpoint does not have this, so another round would be trained.
    """
    trainer, finished = module.trainer, module.current_epoch
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        is_same = isinstance(callback, EarlyStopping) and module.arguments_of_callbacks.are_as_then(callback)
        if is_same and callback.stopping_reason_message and callback.stopped_epoch == finished - 1:
            trainer.should_stop = True
            rank_zero_info(
                f"{type(callback).__name__} stopped this run after round {finished}, so it does not go on; give it "
                "other arguments to train more rounds"
            )


def check_watched(module: FederatedModule) -> None:
    """Refuse an ``AdaptiveMu`` that watches a metric which no round has when mu is updated, before validation.

    Raises:
        InputError: Naming the metric and the available ones.
    """
    if not isinstance(module.mu, AdaptiveMu):
        return
    watch = module.mu.watch
    names = [name for name in metric_names(module) if not name.startswith("global/")]
    is_own = not is_fedlit_class(module.loop.session.client) and watch.startswith("clients/")
    if watch not in names and not is_own:
        raise InputError(
            f"model.mu AdaptiveMu watches {watch!r}, which no round has when mu is updated, so mu would never change; "
            f"available metrics are {_listed(names)}"
        )


def metric_names(module: FederatedModule) -> list[str]:
    """Names of the metrics that a round can have, found by measuring a round with an unchanged client."""
    loop, start = module.loop, read_state(module.net, module.layout)
    task = ClientTask(client=0, round=0, seed=0, steps=1, epochs=1.0, num_examples=1, weight=1.0)
    measured = dict.fromkeys(("loss", "proximal", "accuracy", "samples"), 0.0)
    if data_of(module.trainer).client_holdout:
        measured["own_accuracy"] = 0.0
    if module.trainer.precision == "16-mixed":
        measured["skipped_steps"] = 0.0
    of_model = ["global/accuracy", "global/f1_macro", "global/loss", "global/generalisation_gap"]
    names = of_model if module.trainer.limit_val_batches else []
    if loop.diagnostics is not None:
        measured |= {"gamma": 0.0} if loop.diagnostics.gamma else {}
        names += loop.diagnostics.names(module.layout)
    meter = RoundMeter(start, module.layout, loop.blocks)
    meter.add(ClientUpdate(task, start, [0.0] * len(module.layout.trainable), measured))
    names += [*meter.summary(start), *TIME_METRICS, *loop.work_metrics([]), *loop.algorithm.metrics(1)]
    names += module.rates.metrics(0)
    return sorted({*names, "round/rejected", "federation/mu"})


def _listed(names: list[str]) -> str:
    """Names of metrics, grouped by their prefix: ``global/accuracy, loss; round/seconds``."""
    groups = groupby(names, lambda name: name.partition("/")[0])
    return "; ".join(f"{group}/{', '.join(name.partition('/')[2] for name in of)}" for group, of in groups)
