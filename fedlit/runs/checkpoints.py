"""A checkpoint a round: ``last.ckpt``, and ``best.ckpt`` by held-out accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from fedlit.core.checkpoint import BrokenCheckpointError, read
from fedlit.core.messages import warn
from fedlit.runs.folder import OWN_CHECKPOINTS

BEST_BY = "global/accuracy"


class Kept(ModelCheckpoint):
    """One checkpoint file of a run, replaced atomically.

    Args:
        folder: Where it is; none is where Lightning would have it, and on ranks other than the first where that one
            has it.
        filename: Without its ending.
        monitor: The metric of which the highest is kept; none keeps the newest.
    """

    def __init__(self, folder: Path | None, filename: str, monitor: str | None = None) -> None:
        super().__init__(
            dirpath=folder,
            filename=filename,
            monitor=monitor,
            mode="max" if monitor else "min",
            save_top_k=1,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )

    @property
    def state_key(self) -> str:
        """Of its own, so that the user's ``ModelCheckpoint`` of any arguments can stand beside it."""
        return f"fedlit.{self.filename}"

    @property
    def former_state_key(self) -> str:
        """What it was when fedlit kept its checkpoints by a plain ``ModelCheckpoint``."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)


class Anchor(Callback):
    """Corrects the paths that ``ModelCheckpoint`` callbacks have stored, when a run is resumed.

    They compare paths letter by letter: in a run that was moved, or is resumed from another current folder, they would
    not recognise their files, forget the best score, and delete files as if others had replaced them. So, on a resume,
    the stored paths become those of the same files in the folder that the callback writes to now. The best file is
    forgotten where it is not there, or is of a round that is made again.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        states, finished = checkpoint["callbacks"], checkpoint["global_step"]
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, Kept) and callback.state_key not in states:
                states[callback.state_key] = states.pop(callback.former_state_key, None)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and (state := states.get(callback.state_key)) and callback.dirpath:
                states[callback.state_key] = anchored(state, Path(callback.dirpath), finished)


def anchored(state: dict[str, Any], folder: Path, finished: int) -> dict[str, Any] | None:
    """The state of a ``ModelCheckpoint`` with its paths in a folder.

    Args:
        state: As its ``state_dict`` gives it.
        folder: Where the callback writes now.
        finished: Rounds of the checkpoint that is resumed from.

    Returns:
        None where a metric is monitored and its best file is not in the folder, or not of one of the finished rounds.
    """

    def here(path: str) -> str:
        return str(folder / Path(path).name) if path else path

    if state["best_k_models"] and not _stands(Path(here(state["best_model_path"])), finished):
        return None
    paths = {name: here(state[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
    models = {here(path): score for path, score in state["best_k_models"].items()}
    models = {path: score for path, score in models.items() if Path(path).is_file()}
    return {**state, **paths, "dirpath": str(folder), "best_k_models": models}


def _stands(best: Path, finished: int) -> bool:
    try:
        return int(read(best)["global_step"]) <= finished
    except BrokenCheckpointError as error:
        warn(f"{error.reason}; the best of the rounds from {finished + 1} on takes its place")
        return False


def checkpoints(folder: Path | None = None) -> list[Callback]:
    """The callbacks that write a run's checkpoints into a folder; None is Lightning's own."""
    return [Anchor(), Kept(folder, "best", BEST_BY), Kept(folder, "last")]


def place_own(callbacks: Iterable[Callback], run: Path | None) -> None:
    """Give the user's ``ModelCheckpoint`` callbacks without a folder one in the run's, where none meets fedlit's files.

    Args:
        callbacks: The user's.
        run: The run's folder; on other ranks than the first, None, a callback learns of it from that one.
    """
    for callback in callbacks:
        if run and isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
            callback.dirpath = str(run / OWN_CHECKPOINTS)
