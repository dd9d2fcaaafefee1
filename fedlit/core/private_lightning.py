"""The private parts of Lightning's Trainer that fedlit uses, under plain names.

Tested with Lightning 2.6.6. Each part says why there is no public way. If another version lacks one, importing or
calling it raises an error; nothing fails silently. ``fedlit.command.private`` has those of LightningCLI.
"""

from __future__ import annotations

import subprocess
from traceback import walk_tb
from typing import Any, NamedTuple

from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loops import _FitLoop, _TrainingEpochLoop
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.trainer.connectors.accelerator_connector import _PRECISION_INPUT
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector

#: The type of a Trainer's ``precision``.
Precision = _PRECISION_INPUT


class PrivateArguments(NamedTuple):
    """Arguments of a Trainer that it keeps in private attributes.

    Attributes:
        use_distributed_sampler, sync_batchnorm: As given.
        seconds_between_validations: ``val_check_interval`` if it was given as a time; else None.
        model_registry: As given; None or empty for none.
    """

    use_distributed_sampler: bool
    sync_batchnorm: bool
    seconds_between_validations: float | None
    model_registry: str | None


def private_arguments(trainer: Any) -> PrivateArguments:
    """The arguments of a Trainer that its public attributes lack."""
    connector = trainer._accelerator_connector
    return PrivateArguments(
        connector.use_distributed_sampler,
        connector._layer_sync is not None,
        trainer._val_check_time_interval,
        trainer._model_registry,
    )


def renew_loops(trainer: Trainer, steps: int) -> None:
    """Give a Trainer new loops, for ``steps`` mini-batches; there is no public way to start a Trainer anew."""
    trainer.fit_loop = _FitLoop(trainer, max_epochs=-1)
    trainer.fit_loop.epoch_loop = _TrainingEpochLoop(trainer, max_steps=steps)


def finish_epoch(loops: dict[str, Any], epochs: int) -> None:
    """Set the state of a Trainer's loops to the end of an epoch, whenever it was saved.

    From a state that was saved within an epoch, Lightning would skip hooks or the whole next epoch. The keys of the
    state are private.

    Args:
        loops: The loops' state in a checkpoint; changed in place.
        epochs: Number of finished epochs, of one batch each.
    """
    fit = loops["fit_loop"]
    fit["epoch_loop.state_dict"]["_batches_that_stepped"] = epochs
    epoch, batch = fit["epoch_progress"], fit["epoch_loop.batch_progress"]
    for counts in (epoch["total"], epoch["current"], batch["total"]):
        counts.update(dict.fromkeys(counts, epochs))


def log_epochs_from_one(trainer: Trainer) -> None:
    """Log metrics of an epoch of one batch at the epoch's number from 1; no public hook sets this step.

    Lightning counts from 0, which would put them one row before the other metrics of their round.
    """
    trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step + 1


def has_checkpoint_io(strategy: Any) -> bool:
    """Whether a strategy was given a checkpoint plugin; reading the public attribute would create one."""
    return isinstance(strategy, Strategy) and strategy._checkpoint_io is not None


def rank_launcher(trainer: Trainer) -> _SubprocessScriptLauncher | None:
    """The launcher that started this machine's other ranks, with their processes in ``procs``; None without one."""
    launcher = trainer.strategy.launcher
    return launcher if isinstance(launcher, _SubprocessScriptLauncher) else None


def ranks_started_by(trainer: Trainer) -> list[subprocess.Popen[bytes]]:
    """The processes of the ranks that this one started."""
    launcher = rank_launcher(trainer)
    return launcher.procs if launcher else []


def is_compiled(module: LightningModule) -> bool:
    """Whether a Trainer was given ``torch.compile(module)``; it unwraps the module and compiles its steps."""
    return module._compiler_ctx is not None


def has_no_version_yet(logger: Logger) -> bool:
    """Whether a logger will number its folder itself; its public ``version`` would choose the number.

    Other loggers than these get a new name for each run from their service.
    """
    return isinstance(logger, CSVLogger | TensorBoardLogger) and logger._version is None


def forget_version(logger: CSVLogger | TensorBoardLogger) -> None:
    """Let a logger that has written nothing choose its number anew."""
    logger._version = None


def raised_while_restoring(error: BaseException) -> bool:
    """Whether an error was raised while a Trainer restored a checkpoint; only the traceback's frames tell."""
    return any(
        frame.f_globals.get("__name__") == _CheckpointConnector.__module__ and "restore" in frame.f_code.co_name
        for frame, _ in walk_tb(error.__traceback__)
    )
