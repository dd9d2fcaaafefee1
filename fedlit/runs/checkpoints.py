"""A checkpoint a round: ``last.ckpt``, and ``best.ckpt`` by held-out accuracy."""

from __future__ import annotations

from lightning.pytorch.callbacks import ModelCheckpoint

BEST_BY = "global/accuracy"


def checkpoints() -> list[ModelCheckpoint]:
    """The two callbacks that keep a run's checkpoints; each file is replaced in one move."""
    best = ModelCheckpoint(
        monitor=BEST_BY,
        mode="max",
        filename="best",
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    last = ModelCheckpoint(filename="last", save_top_k=1, enable_version_counter=False, save_on_train_epoch_end=True)
    return [best, last]
