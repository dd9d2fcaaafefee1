"""Writes a run's record: scalars on disk before each checkpoint, hyper-parameters, first and closing lines."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from fedlit.core.checkpoint import LAST
from fedlit.core.errors import InputError
from fedlit.core.messages import one_line
from fedlit.core.private_torch import write_summary
from fedlit.core.terminal import Terminal
from fedlit.data.module import data_of
from fedlit.engines.auto import engine_name
from fedlit.federated.module import FederatedModule
from fedlit.runs.board import in_words, layout, tag_of
from fedlit.runs.checkpoints import BEST_BY
from fedlit.runs.evaluation import is_chance
from fedlit.runs.folder import CHECKPOINTS, shown, versions
from fedlit.runs.loggers import Board, MetricsTable
from fedlit.runs.state import FolderLock, RunState, record
from fedlit.runs.words import opening

#: Printed at the end of a run whose model is at chance, see `fedlit.runs.evaluation.is_chance`.
LEARNED_NOTHING = (
    "the run has learned nothing: the model is no better than one that always predicts the most frequent class; a "
    "lower learning rate of model.client_optimizer, clipping by model.client_clip_norm, or more rounds may help"
)


class RunLog(Callback):
    """Flushes the loggers each round before the checkpoint is written, so that no checkpoint is ahead of its curves.

    At the start it prints a line about the run, and writes to TensorBoard the config in words, the combined charts
    (`fedlit.runs.board`) and, for the HParams tab, the settings that differ from the defaults. At the end it prints
    where the results are, or after an interruption how to resume. During training the run's folder is locked; the state
    of the run is in ``run.json``.

    Args:
        logs: The folder of all runs, for TensorBoard.
        command: The arguments after ``fedlit`` that started the run.
        hparams: The run's settings, for loggers other than TensorBoard's; values that are not numbers, strings or
            booleans become strings.
        lock: The lock of the run's folder; None on ranks other than the first.
        chosen: The settings that differ from the defaults, for the HParams tab.
        config: The run's config, as read from YAML.
    """

    def __init__(
        self,
        logs: str,
        command: Sequence[str],
        hparams: Mapping[str, Any],
        lock: FolderLock | None = None,
        chosen: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self._logs = logs
        self._command = list(command)
        self._hparams = _simple(hparams)
        self._chosen = _simple(hparams if chosen is None else chosen)
        self._config = config or {}
        self._console = Terminal()
        self._best = float("-inf")
        self._best_round = 0
        self._is_chance = False
        self._lock = lock
        self._began = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._best, self._best_round, self._is_chance, self._began = float("-inf"), 0, False, False

    def on_train_start(self, trainer: Trainer, pl_module: FederatedModule) -> None:  # type: ignore[override]
        if self._lock is not None and not trainer.is_global_zero:  # this process had assumed that it is the first rank
            self._lock.release()
            self._lock = None
        self._began = True
        self._record(trainer, "running")
        data, session = data_of(trainer), pl_module.loop.session
        line = opening(self._config, data.num_clients, engine_name(session.engine))
        self._say(trainer, f"{self._place}: {line}" if self._place else line)
        if trainer.global_step > 0:
            self._say(trainer, f"resuming after round {trainer.global_step} in {self._place}")
        for note in filter(None, (*data.notes, session.note)):
            self._say(trainer, note)
        for logger in trainer.loggers:
            if not isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(self._hparams)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    self._describe(logger, line, data.client_holdout > 0, trainer.global_step)

    def _describe(self, logger: TensorBoardLogger, line: str, has_own: bool, finished: int) -> None:
        """Write a description of the run to TensorBoard; again on a resume, since its settings may be others."""
        from torch.utils.tensorboard.summary import custom_scalars, hparams

        tag = tag_of if isinstance(logger, Board) else str
        # Not Logger.log_hyperparams, which would add a made-up point to each curve. The first summary is left out: if a
        # run had it, TensorBoard would show only the columns of that run.
        for summary in hparams(self._chosen, {})[1:]:
            write_summary(logger.experiment, summary)
        write_summary(logger.experiment, custom_scalars(layout(has_own, tag)))
        logger.experiment.add_text("run", in_words(line, self._config, self._chosen, self._command), finished)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, MetricsTable):
                logger.round = trainer.current_epoch + 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        accuracy = float(trainer.callback_metrics.get(BEST_BY, float("-inf")))
        if accuracy > self._best:
            self._best, self._best_round = accuracy, trainer.global_step
        for logger in trainer.loggers:
            logger.save()

    def on_validation_end(self, trainer: Trainer, pl_module: FederatedModule) -> None:  # type: ignore[override]
        self._is_chance = is_chance(pl_module.scores.hits.cpu().numpy(), pl_module.scores.true.cpu().numpy())

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        place = self._place
        self._record(trainer, "finished")
        if line := early_end(trainer):
            self._say(trainer, line)
        elif not self._began:
            self._say(
                trainer, f"no round is left, as trainer.max_epochs is {trainer.max_epochs}; give more to train on"
            )
        if self._best_round:
            self._say(trainer, f"best round {self._best_round}: accuracy {self._best:.4f}")
        if self._is_chance:
            self._say(trainer, LEARNED_NOTHING)
        self._say(trainer, f"run folder: {place}")
        if any(isinstance(logger, Board) for logger in trainer.loggers):
            self._say(trainer, f"view it: tensorboard --logdir {shlex.quote(self._logs)}")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        failed = isinstance(exception, Exception)
        last = self._lock.folder / CHECKPOINTS / LAST if self._lock else None
        with suppress(InputError):  # the disk may be the cause of the error
            self._record(trainer, "failed" if failed else "interrupted", one_line(str(exception)) if failed else "")
        if not isinstance(exception, KeyboardInterrupt | SIGTERMException):
            return
        if last is None or not last.is_file():
            self._say(trainer, "stopped before the first round was finished and saved, so there is nothing to resume")
            return
        self._say(trainer, f"stopped after round {trainer.current_epoch}; resume with: {self._resume_command(last)}")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "best_round": self._best_round}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best, self._best_round = state_dict["best"], state_dict["best_round"]

    @property
    def _place(self) -> str:
        return shown(self._lock.folder) if self._lock else ""  # other ranks print nothing

    def _record(self, trainer: Trainer, state: RunState, error: str = "") -> None:
        """Write the state on the first rank. A run that failed before training keeps an earlier record."""
        if self._lock is None:
            return
        try:
            if self._began or state == "finished":
                record(self._lock.folder, state, trainer.max_epochs, error)
        finally:
            if state != "running":
                self._lock.release()
                self._lock = None

    def _resume_command(self, last: Path) -> str:
        """The command that resumes the run of a checkpoint: ``last`` is that of the newest run of its name."""
        words, given = without_option(self._command, "--ckpt_path")
        run = last.parents[1]
        is_found = given in (None, "last", "best") and (
            "--version" in {word.partition("=")[0] for word in words}
            or versions(run.parents[1], run.parent.name)[-1:] == [run]
        )
        return shlex.join(["fedlit", *words, "--ckpt_path", "last" if is_found else shown(last)])

    def _say(self, trainer: Trainer, line: str) -> None:
        if trainer.is_global_zero:
            self._console.print(line)


def without_option(words: Sequence[str], option: str) -> tuple[list[str], str | None]:
    """A command's words without an option, ``--option VALUE`` or ``--option=VALUE``, and its last value."""
    left, value, rest = [], None, iter(words)
    for word in rest:
        name, equals, joined = word.partition("=")
        if name != option:
            left.append(word)
        else:
            value = joined if equals else next(rest, None)
    return left, value


def early_end(trainer: Trainer) -> str:
    """A line that says why a fit has ended before ``trainer.max_epochs``; empty if it has not."""
    if trainer.current_epoch == trainer.max_epochs:
        return ""
    asked = f" of {trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
    reasons = []
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        name = type(callback).__name__
        if isinstance(callback, EarlyStopping) and callback.stopping_reason_message:
            reason = callback.stopping_reason_message.removesuffix(" Signaling Trainer to stop.").rstrip(".")
            reasons.append(f"{name}: {reason}; to train on, resume with other arguments for it")
        if isinstance(callback, Timer) and (left := callback.time_remaining()) is not None and left <= 0:
            reasons.append(f"{name}: the run's time is over; to train on, resume with a longer one")
    return f"stopped after round {trainer.current_epoch}{asked}" + "".join(f"; {reason}" for reason in reasons)


def _simple(values: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    return {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in values.items()}
