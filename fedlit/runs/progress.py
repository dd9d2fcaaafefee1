"""Progress on the terminal: a bar for the rounds and a bar for the clients of the round."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from fedlit.core.records import ClientAnswer, Cohort
from fedlit.core.terminal import Terminal
from fedlit.federated.loop import FederatedLoop
from fedlit.federated.module import FederatedModule

#: The remaining time is estimated from the speed in this many seconds.
SPEED_SECONDS = 30.0
#: Width of a terminal from which on bars have all their parts.
ALL_FIT = 80


class Bars(Progress):
    """Bars that omit the bar itself and the elapsed time if the terminal is narrower than 80 columns."""

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        """Rich calls this at each refresh, so a resized terminal is handled too."""
        every = self.columns
        if tasks and self.console.width < ALL_FIT:
            self.columns = tuple(each for each in every if not isinstance(each, BarColumn | TimeElapsedColumn))
        try:
            return super().make_tasks_table(tasks)
        finally:
            self.columns = every


def bars(console: Terminal, *more: ProgressColumn, speed_seconds: float = SPEED_SECONDS) -> Progress:
    """Bars with a description, the count, the time taken and the time left, and further columns."""
    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        *more,
        console=console,
        speed_estimate_period=speed_seconds,
    )


class RoundProgress(ProgressBar):
    """Two bars on a terminal; if the output is a file or a pipe, one line for each round."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Terminal(file=sys.stdout, soft_wrap=False)
        self._enabled = True
        self._loop: FederatedLoop | None = None  # the loop whose updates are shown
        self._bars: Progress | None = None
        self._rounds: TaskID
        self._clients: TaskID

    def disable(self) -> None:
        """Show nothing (Lightning calls this on all ranks except the first)."""
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._enabled:
            return
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, FederatedLoop):
                self._loop = callback
                callback.on_update.append(self._on_update)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._enabled or self._bars or not self._console.is_terminal:
            return
        # Only now, so that the lines that other callbacks print at the start are above the bars.
        self._bars = bars(self._console, TextColumn("{task.fields[note]}", markup=False))
        total = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None
        self._rounds = self._bars.add_task("rounds ", total=total, completed=trainer.current_epoch, note="")
        self._clients = self._bars.add_task("clients", total=None, note="")
        self._bars.start()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Cohort, batch_idx: int) -> None:
        if self._bars:
            self._bars.reset(self._clients, total=len(batch.mine))  # the clients of this rank

    def _on_update(self, answer: ClientAnswer) -> None:
        if self._bars:
            self._bars.update(self._clients, advance=1, note=f"client {answer.task.client}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._enabled:
            return
        assert isinstance(pl_module, FederatedModule)
        seen = pl_module.round_metrics | pl_module.logged  # metrics of a round without validation are logged later
        note = "  ".join(
            f"{label} {seen[name]:.4f}"
            for label, name in (("accuracy", "global/accuracy"), ("loss", "global/loss"))
            if name in seen
        )
        if self._bars:
            self._bars.update(self._rounds, advance=1, note=note)
        else:
            seconds = seen.get("round/seconds", float("nan"))
            parts = (f"round {trainer.current_epoch + 1}/{trainer.max_epochs}", note, f"{seconds:.1f} s")
            self._console.print("  ".join(filter(None, parts)))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._loop is not None:
            self._loop.on_update.remove(self._on_update)
            self._loop = None
        if self._bars:
            self._bars.stop()
            self._bars = None
