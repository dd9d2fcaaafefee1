"""The reference engine: a Lightning Trainer for every fit."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lightning import Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import SingleDeviceStrategy

from fedlit.data.module import data_of
from fedlit.engines.engine import Engine
from fedlit.federated.client import ClientModule
from fedlit.federated.records import ClientTask, ClientUpdate


class TrainerEngine(Engine):
    """One ``Trainer.fit`` per client, on the server's device and in its precision.

    Everything of Lightning works inside a client: its hooks, gradient scaling, callbacks of a ``ClientModule``. The
    other engines are measured against this one.
    """

    def run(self, client: ClientModule, tasks: Sequence[ClientTask], trainer: Trainer) -> Iterator[ClientUpdate]:
        for task in tasks:
            client.start(task)
            batches = data_of(trainer).client_batches(task.client, task.round, task.seed)
            with _quiet():
                fit = inner_trainer(trainer, task.steps)
                try:
                    fit.fit(client, train_dataloaders=batches)
                except SystemExit as stop:  # what Trainer.fit makes of Ctrl-C: the server's Trainer is to hear it
                    raise KeyboardInterrupt from stop
            yield client.finish(task)


def inner_trainer(outer: Trainer, steps: int) -> Trainer:
    """A Trainer for ``steps`` mini-batches on the outer one's device and in its precision, that keeps to itself."""
    device = outer.strategy.root_device
    return Trainer(
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        strategy=SingleDeviceStrategy(device),
        plugins=[LightningEnvironment()],  # the process may be one of many ranks: the fit is its own
        precision=outer.precision,
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what a Trainer says of itself ("GPU available: …"), which the outer one has said already."""
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
