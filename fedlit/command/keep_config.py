"""Saves the config of a run beside its results."""

from __future__ import annotations

import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning
import yaml
from lightning.pytorch.cli import SaveConfigCallback

from fedlit.core.files import atomic_write
from fedlit.runs.changes import changes
from fedlit.runs.folder import CONFIG, UNTIL_ROUND


class KeepConfig(SaveConfigCallback):
    """Saves the run's config, in one move, when training starts, so that a refused resume keeps the old one.

    A checkpoint holds the config that it was trained with. If a run resumes with another config, the changes are
    printed, and the earlier config is kept as ``config_until_round_N.yaml``.

    Args:
        folder: The run's folder; None saves nothing, as on ranks other than the first.
        arguments: Arguments of ``SaveConfigCallback``.
    """

    _earlier: str | None = None

    def __init__(self, *arguments: Any, folder: Path | None = None, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._folder = folder

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Do nothing: it is not known yet whether the run can start."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        folder = self._folder
        if folder is None or not trainer.is_global_zero:
            return
        found = changes(*map(yaml.safe_load, (self._earlier, self._text))) if self._earlier else []
        if found and self._earlier:
            with atomic_write(folder / UNTIL_ROUND.format(trainer.current_epoch)) as file:
                file.write(self._earlier)
        with atomic_write(folder / CONFIG) as file:
            file.write(self._text)
        for change in found:
            sys.stdout.write(f"{change} from round {trainer.current_epoch + 1} on\n")

    @cached_property
    def _text(self) -> str:
        return str(self.parser.dump(self.config, skip_none=False))

    def state_dict(self) -> dict[str, Any]:
        return {"config": self._text}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._earlier = state_dict["config"]
