"""The reference engine: a Lightning Trainer for every fit."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import SingleDeviceStrategy

from fedlit.clients.client import ClientModule
from fedlit.clients.members import overridden_member
from fedlit.core.errors import InputError
from fedlit.core.private_lightning import renew_loops
from fedlit.core.records import ClientAnswer, ClientFailure, ClientTask, ClientUpdate
from fedlit.engines.attempt import attempt
from fedlit.engines.engine import Engine
from fedlit.engines.scaling import gradient_scaler, with_skipped_steps
from fedlit.engines.site import Site


class TrainerEngine(Engine):
    """One ``Trainer.fit`` per client, on the server's device and in its precision.

    A Trainer is made once a round (making one costs as much as a small fit) and is given new loops for each client, so
    that fits do not affect each other. All of Lightning works inside a client: hooks, gradient scaling, callbacks of a
    ``ClientModule``. It is the reference for the other engines.
    """

    def check(self, client: ClientModule, site: Site) -> None:
        reason = overridden_member(client, frozenset({"train_dataloader"}))
        if reason:
            raise InputError(f"{reason}, but clients train on the datamodule's data; give the data to the datamodule")

    def run(self, client: ClientModule, tasks: Sequence[ClientTask], site: Site) -> Iterator[ClientAnswer]:
        def fit(tasks: Sequence[ClientTask]) -> list[ClientUpdate]:
            (task,) = tasks
            client.start(task)
            renew(inner, task.steps, count_steps=client.automatic_optimization)
            batches = site.data.client_batches(task.client, task.round, task.seed)
            try:
                inner.fit(client, train_dataloaders=batches)
            except SystemExit as stop:  # Trainer.fit raises it for Ctrl-C, which the server's Trainer must see
                raise (stop.__context__ or KeyboardInterrupt()) from None
            client.to(site.device)  # a Trainer that has finished leaves its module on the CPU
            scaler = getattr(inner.precision_plugin, "scaler", None)
            return [with_skipped_steps(client.finish(task, site.data), scaler)]

        with _quiet():  # once a round, as changing a level visits all loggers
            inner = inner_trainer(site)
            for task in tasks:
                (answer,) = attempt(fit, [task])
                yield answer
                if isinstance(answer, ClientFailure):
                    inner = inner_trainer(site)  # the error may have left the old one in any state


def inner_trainer(site: Site) -> Trainer:
    """A Trainer on the site's device and in its precision, without output or files; ``renew`` it before each fit."""
    device = site.device
    return Trainer(
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        strategy=SingleDeviceStrategy(device),
        plugins=[LightningEnvironment()],  # the fit belongs to this rank alone
        precision=site.precision.precision,
        callbacks=[StopAfterBatches()],
        max_epochs=-1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        detect_anomaly=torch.is_anomaly_enabled(),  # as in the outer Trainer; each Trainer sets it globally
    )


class StopAfterBatches(Callback):
    """Ends a fit after its mini-batches; ``max_steps`` counts the optimizers' steps instead.

    A client with manual optimization may take several steps on a batch, or none that the Trainer sees.
    """

    def __init__(self) -> None:
        self.left = 0

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.left -= 1
        if self.left <= 0:
            trainer.should_stop = True


def renew(trainer: Trainer, steps: int, count_steps: bool = True) -> None:
    """Reset a Trainer for a fit: new loops, and a new gradient scaler if it has one.

    Args:
        trainer: A result of ``inner_trainer``.
        steps: Number of mini-batches.
        count_steps: Whether an optimizer takes one step on each of them, so that ``max_steps`` is their number too.
    """
    renew_loops(trainer, steps if count_steps else -1)
    (counter,) = (each for each in trainer.callbacks if isinstance(each, StopAfterBatches))  # type: ignore[attr-defined]
    counter.left = steps
    plugin = trainer.precision_plugin
    if isinstance(plugin, MixedPrecision) and plugin.scaler is not None:
        plugin.scaler = gradient_scaler(trainer.strategy.root_device.type)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the messages of inner Trainers ("GPU available: …"), which the outer one has shown already."""
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
