"""Saves a checkpoint each round: ``last.ckpt``, and ``best.ckpt`` by held-out accuracy."""

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
        folder: Its folder; None takes Lightning's, and on other ranks than the first that of the first rank.
        filename: Its name without the ending.
        monitor: A metric; the checkpoint with its highest value is kept. None keeps the newest checkpoint.
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
        """A key of its own, so that the user may add a ``ModelCheckpoint`` with any arguments."""
        return f"fedlit.{self.filename}"

    @property
    def former_state_key(self) -> str:
        """The key of versions of fedlit that used a plain ``ModelCheckpoint``."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)


class Anchor(Callback):
    """Corrects the paths that ``ModelCheckpoint`` callbacks have stored, when a run is resumed.

    They compare paths as text: if a run was moved, or is resumed from another current folder, they would not recognise
    their files, forget the best score, and delete files. So, on a resume, the stored paths are replaced by those of the
    same files in the callback's present folder. The best file is forgotten if it is missing, or belongs to a round that
    will be repeated.
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
    """The state of a ``ModelCheckpoint`` with its paths changed to a folder.

    Args:
        state: The callback's ``state_dict``.
        folder: The folder to which the callback writes now.
        finished: Finished rounds of the checkpoint that is resumed.

    Returns:
        None if a metric is monitored and its best file is not in the folder, or not of one of the finished rounds.
    """

    def here(path: str) -> str:
        before = Path(state["dirpath"])
        # A metric's slash in the name of a file makes a folder, as in ``{global/accuracy:.3f}``.
        within = Path(path).relative_to(before) if Path(path).is_relative_to(before) else Path(path).name
        return str(folder / within) if path else path

    if state["best_k_models"] and not _is_valid(Path(here(state["best_model_path"])), finished):
        return None
    paths = {name: here(state[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
    models = {here(path): score for path, score in state["best_k_models"].items()}
    models = {path: score for path, score in models.items() if Path(path).is_file()}
    return {**state, **paths, "dirpath": str(folder), "best_k_models": models}


def _is_valid(best: Path, finished: int) -> bool:
    if not best.exists():  # the checkpoint was copied without it, or it was removed
        warn(f"{best}, the best checkpoint, is missing; the best round from round {finished + 1} on will replace it")
        return False
    try:
        return int(read(best)["global_step"]) <= finished
    except BrokenCheckpointError as error:
        warn(f"{error.reason}; the best round from round {finished + 1} on will replace it")
        return False


def checkpoints(folder: Path | None = None) -> list[Callback]:
    """The callbacks that write a run's checkpoints into a folder; None is Lightning's folder."""
    return [Anchor(), Kept(folder, "best", BEST_BY), Kept(folder, "last")]


def place_own(callbacks: Iterable[Callback], run: Path | None) -> None:
    """Give the user's ``ModelCheckpoint`` callbacks without a folder one in the run's folder, apart from fedlit's
    files.

    Args:
        callbacks: The user's callbacks.
        run: The run's folder; None on other ranks than the first, whose callbacks learn the folder from the first rank.
    """
    for callback in callbacks:
        if run and isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
            callback.dirpath = str(run / OWN_CHECKPOINTS)
