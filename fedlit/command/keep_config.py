"""The config of a run, beside its results."""

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
    """Saves the run's config, in one move, once training starts: a refused resume leaves the old one as it was.

    A checkpoint holds the config that it was trained with. Where a run goes on with another, what changed is said, and
    the one of the rounds before is kept as ``config_until_round_N.yaml``.

    Args:
        folder: The run's; None saves nothing, as on ranks other than the first.
        arguments: Of ``SaveConfigCallback``.
    """

    _earlier: str | None = None

    def __init__(self, *arguments: Any, folder: Path | None = None, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._folder = folder

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Nothing: whether the run can begin is not known yet."""

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
