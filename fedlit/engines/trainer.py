"""The reference engine: a Lightning Trainer for every fit."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from lightning import Trainer
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.amp.grad_scaler import GradScaler

from fedlit.clients.client import ClientModule
from fedlit.clients.members import overridden
from fedlit.core.errors import InputError
from fedlit.core.private_lightning import renew_loops
from fedlit.core.records import ClientAnswer, ClientFailure, ClientTask, ClientUpdate
from fedlit.engines.attempt import attempt
from fedlit.engines.engine import Engine
from fedlit.engines.site import Site


class TrainerEngine(Engine):
    """One ``Trainer.fit`` per client, on the server's device and in its precision.

    A Trainer is made once a round (making one costs as much as a small fit) and given new loops for each client, so
    that nothing of one fit reaches the next. Everything of Lightning works inside a client: its hooks, gradient
    scaling, callbacks of a ``ClientModule``. The other engines are measured against this one.
    """

    def check(self, client: ClientModule, site: Site) -> None:
        reason = overridden(client, frozenset({"train_dataloader"}), called=frozenset())
        if reason:
            raise InputError(f"{reason}, but clients train on the datamodule's data; give it the data")

    def run(self, client: ClientModule, tasks: Sequence[ClientTask], site: Site) -> Iterator[ClientAnswer]:
        def fit(tasks: Sequence[ClientTask]) -> list[ClientUpdate]:
            (task,) = tasks
            client.start(task)
            renew(inner, task.steps)
            batches = site.data.client_batches(task.client, task.round, task.seed)
            try:
                inner.fit(client, train_dataloaders=batches)
            except SystemExit as stop:  # what Trainer.fit makes of Ctrl-C, which the server's Trainer must see
                raise (stop.__context__ or KeyboardInterrupt()) from None
            client.to(site.device)  # a Trainer that has finished leaves its module on the CPU
            return [client.finish(task, site.data)]

        with _quiet():  # once a round: to change a level, logging goes through all loggers that there are
            inner = inner_trainer(site)
            for task in tasks:
                (answer,) = attempt(fit, [task])
                yield answer
                if isinstance(answer, ClientFailure):
                    inner = inner_trainer(site)  # the error may have left the other in any state


def inner_trainer(site: Site) -> Trainer:
    """A Trainer on the site's device and in its precision, without output or files; to be renewed before each fit."""
    device = site.device
    return Trainer(
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        strategy=SingleDeviceStrategy(device),
        plugins=[LightningEnvironment()],  # the process may be one of many ranks: the fit is its own
        precision=site.precision.precision,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        detect_anomaly=torch.is_anomaly_enabled(),  # the outer one's setting, which Lightning sets for each fit
    )


def renew(trainer: Trainer, steps: int) -> None:
    """Make a Trainer as new, for a fit of ``steps`` mini-batches: fresh loops, and a fresh gradient scaler if any."""
    renew_loops(trainer, steps)
    plugin = trainer.precision_plugin
    if isinstance(plugin, MixedPrecision) and plugin.scaler is not None:
        plugin.scaler = GradScaler(trainer.strategy.root_device.type)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Trainers say of themselves ("GPU available: …"), which the outer one has said already."""
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
