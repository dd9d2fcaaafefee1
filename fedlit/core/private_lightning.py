"""What fedlit uses of Lightning's Trainer that is not public, by plain names.

Tested with Lightning 2.6.6. Each part says why there is no public way. Where another version lacks one, it fails as it
is imported or called: none of them passes in silence. For LightningCLI there is ``fedlit.command.private``.
"""

from __future__ import annotations

import subprocess
from traceback import walk_tb
from typing import Any, NamedTuple

from lightning import LightningModule, Trainer
from lightning.pytorch.loops import _FitLoop, _TrainingEpochLoop
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.trainer.connectors.accelerator_connector import _PRECISION_INPUT
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector

#: What a Trainer takes for its precision.
Precision = _PRECISION_INPUT


class PrivateArguments(NamedTuple):
    """Arguments of a Trainer that it keeps in private.

    Attributes:
        distributed_sampler: ``use_distributed_sampler``.
        sync_batchnorm: As given.
        seconds_between_validations: ``val_check_interval`` where it was given as a time; else None.
        model_registry: As given; None or empty is none.
    """

    distributed_sampler: bool
    sync_batchnorm: bool
    seconds_between_validations: float | None
    model_registry: str | None


def private_arguments(trainer: Any) -> PrivateArguments:
    """What a Trainer was given; its public attributes do not have these."""
    connector = trainer._accelerator_connector
    return PrivateArguments(
        connector.use_distributed_sampler,
        connector._layer_sync is not None,
        trainer._val_check_time_interval,
        trainer._model_registry,
    )


def renew_loops(trainer: Trainer, steps: int) -> None:
    """Give a Trainer the loops of a new one, for ``steps`` mini-batches: it has no public way to begin again."""
    trainer.fit_loop = _FitLoop(trainer, max_epochs=-1)
    trainer.fit_loop.epoch_loop = _TrainingEpochLoop(trainer, max_steps=steps)


def finish_epoch(loops: dict[str, Any], epochs: int) -> None:
    """Let the state of a Trainer's loops be that after so many epochs of one batch each, whenever it was saved.

    Of one that was saved within an epoch Lightning leaves out hooks, or the whole next epoch. What stands in the state
    has no public name.

    Args:
        loops: As a checkpoint has them; changed in place.
        epochs: How many are finished, and how many batches.
    """
    fit = loops["fit_loop"]
    fit["epoch_loop.state_dict"]["_batches_that_stepped"] = epochs
    epoch, batch = fit["epoch_progress"], fit["epoch_loop.batch_progress"]
    for counts in (epoch["total"], epoch["current"], batch["total"]):
        counts.update(dict.fromkeys(counts, epochs))


def log_epochs_from_one(trainer: Trainer) -> None:
    """Let what is logged in an epoch of one batch have the epoch's number, from 1, as its step; no hook can say so.

    Lightning counts from 0, beside which metrics of rounds would stand a row too early.
    """
    trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step + 1


def has_checkpoint_io(strategy: Any) -> bool:
    """Whether a strategy was given a plugin for checkpoints; the public attribute makes one where there is none."""
    return isinstance(strategy, Strategy) and strategy._checkpoint_io is not None


def rank_launcher(trainer: Trainer) -> _SubprocessScriptLauncher | None:
    """What started the other ranks of this machine, with their processes ``procs``; None where nothing did."""
    launcher = trainer.strategy.launcher
    return launcher if isinstance(launcher, _SubprocessScriptLauncher) else None


def ranks_started_by(trainer: Trainer) -> list[subprocess.Popen[bytes]]:
    """The processes of the ranks that this one started."""
    launcher = rank_launcher(trainer)
    return launcher.procs if launcher else []


def is_compiled(module: LightningModule) -> bool:
    """Whether a Trainer was given ``torch.compile(module)``, of which it takes the module and compiles the steps."""
    return module._compiler_ctx is not None


def raised_while_restoring(error: BaseException) -> bool:
    """Whether an error came up while a Trainer took its state from a checkpoint; only its frames say so."""
    return any(
        frame.f_globals.get("__name__") == _CheckpointConnector.__module__ and "restore" in frame.f_code.co_name
        for frame, _ in walk_tb(error.__traceback__)
    )
