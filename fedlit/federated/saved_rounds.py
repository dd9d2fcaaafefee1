"""How many rounds had finished in each checkpoint of a run: clients' vectors of other rounds can be removed."""

from __future__ import annotations

from pathlib import Path

from lightning import Trainer

from fedlit.core.checkpoint import DEEPEST, read
from fedlit.core.errors import InputError


class SavedRounds:
    """Finished rounds of the checkpoints in a Trainer's checkpoint folders; each file is read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], int] = {}  # by file and time of writing

    def of(self, trainer: Trainer) -> list[int]:
        """The rounds finished at this moment, and those of each checkpoint that can be resumed from."""
        written = (getattr(callback, "dirpath", None) for callback in trainer.checkpoint_callbacks)
        folders = {Path(path).resolve() for path in written if path}
        patterns = ["*/" * depth + "*.ckpt" for depth in range(DEEPEST + 1)]
        files = [(path, path.stat()) for folder in folders for each in patterns for path in folder.glob(each)]
        stamped = {(stat.st_ino, stat.st_mtime_ns): path for path, stat in files}
        self._known = {stamp: self._known.get(stamp) or _finished_rounds(path) for stamp, path in stamped.items()}
        return [trainer.current_epoch, *filter(None, self._known.values())]


def _finished_rounds(checkpoint: Path) -> int:
    """Finished rounds of a checkpoint; 0 if it is not valid."""
    try:
        return int(read(checkpoint)["global_step"])
    except InputError:
        return 0
