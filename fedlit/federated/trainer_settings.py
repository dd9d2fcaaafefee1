"""Refuses arguments of Lightning's Trainer that have no effect or another meaning in a federation.

An epoch is a round, a round is one batch, and fedlit itself steps the server's optimizer and distributes data over
ranks. All other arguments take effect as Lightning documents them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from lightning import Trainer
from lightning.pytorch.plugins import MixedPrecision, Precision
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_warn

from fedlit.core.errors import InputError
from fedlit.core.private_lightning import private_arguments

#: Strategies that split a model over ranks.
SHARDING = (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)
#: In all of these the weights are float32, and so are the averages.
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
#: Lightning's plugins for them. Not every engine calls what a subclass overrides.
PLUGINS = (Precision, MixedPrecision)
#: Why float16 is refused on a CPU, where Lightning takes bfloat16 instead, and its plugin float16.
NEEDS_GPU = "float16 is for GPUs; on a CPU leave it out for 32-true, or give bf16-mixed"
#: The kinds of devices on which fedlit has been run.
TRIED = ("cpu", "cuda")
CLIP_CLIENTS = (
    "the server's step is not clipped; leave it out, and clip the clients' gradients by model.client_clip_norm, or "
    "their updates by federation.algorithm fedlit.algorithms.ClippedMean"
)
#: The accepted values of some arguments, and the reason to refuse others, with the remedy.
ACCEPTED: dict[str, tuple[tuple[object, ...], str]] = {
    "precision": (PRECISIONS, f"clients are trained in {', '.join(PRECISIONS)}; leave it out for the best"),
    "overfit_batches": ((0,), "a round is one batch; leave it out, and make data.num_clients or the data smaller"),
    "limit_train_batches": (
        (1,),
        "a round is one batch; leave it out, and give trainer.max_epochs the number of rounds",
    ),
    "fast_dev_run": (
        (False,),
        "a round is one batch; leave it out, and try a short run by trainer.max_epochs 1 and "
        "federation.local_epochs 0.1",
    ),
    "log_every_n_steps": ((1, 50), "a step is a round, and each round is logged; leave it out"),  # Lightning's is 50
    "accumulate_grad_batches": (
        (1,),
        "the server steps once a round; leave it out, and raise data.batch_size for the clients",
    ),
    "gradient_clip_val": ((None,), CLIP_CLIENTS),
    "gradient_clip_algorithm": ((None,), CLIP_CLIENTS),
    "reload_dataloaders_every_n_epochs": (
        (0,),
        "clients' batches are made anew in each round and the held-out data stays; leave it out",
    ),
    "use_distributed_sampler": ((True,), "fedlit distributes data over ranks without samplers; leave it out"),
    "sync_batchnorm": (
        (False,),
        "ranks train different clients, whose statistics are averaged after the round; leave it out",
    ),
    "enable_autolog_hparams": ((True,), "a run's settings are always kept, in its config.yaml; leave it out"),
    "model_registry": ((None, ""), "checkpoints go to the run's folder; leave it out"),
}


def check_arguments(given: Mapping[str, Any]) -> None:
    """Refuse, before a Trainer is made, arguments that it would not accept or keep.

    Raises:
        InputError: Naming the argument, its value and what to do instead.
    """
    if given.get("barebones"):
        raise InputError(
            "trainer.barebones is True, but a federation logs its rounds; leave it out, and turn off trainer.logger "
            "and trainer.enable_checkpointing"
        )
    if given.get("default_root_dir") is not None:
        raise InputError(
            f"trainer.default_root_dir is {given['default_root_dir']}, but runs go to the folder of --logs_dir; leave "
            "it out"
        )


def check_settings(trainer: Trainer) -> None:
    """Refuse a Trainer's arguments that have no effect in a federation.

    Raises:
        InputError: Naming the argument, its value and what to do instead.
    """
    for argument, value, remedy in _without_effect(trainer):
        raise InputError(f"trainer.{argument} is {value}, but {remedy}")


def warn_of_device(device: torch.device) -> None:
    """Warn of a kind of device on which fedlit has not been run."""
    if device.type not in TRIED:
        rank_zero_warn(
            f"fedlit has not been run on devices of the kind {device.type}: it may fail, or a resumed run may differ; "
            "trainer.accelerator cpu is tested"
        )


#: What a Trainer's arguments call its loops over held-out data.
Stage = Literal["val", "test", "predict"]


def check_limit(trainer: Any, stage: Stage) -> None:
    """Refuse a limit of no batches, with which there are no results.

    Raises:
        InputError: Naming the argument.
    """
    if not (limit := getattr(trainer, f"limit_{stage}_batches")):
        raise InputError(f"trainer.limit_{stage}_batches is {limit}, so there would be no results; leave it out")


def warn_of_limit(trainer: Any, stage: Stage = "val") -> None:
    """Warn that only a part of the held-out data is used; called when the Trainer knows its batches."""
    limit = getattr(trainer, f"limit_{stage}_batches")
    if not limit or (limit == 1 and isinstance(limit, float)):
        return
    batches, used = len(getattr(trainer, f"{stage}_dataloaders")), getattr(trainer, f"num_{stage}_batches")[0]
    measured = "predictions are made for" if stage == "predict" else "global/* is measured on"
    rank_zero_warn(
        f"trainer.limit_{stage}_batches is {limit}: {measured} {used} of {batches} batches of the held-out data; "
        "data.eval_batch_size is the size of a batch"
    )


def last_round(trainer: Trainer, at_most: int) -> int:
    """The number of finished rounds with which a fit ends, or ``at_most`` if that is less."""
    limits = (trainer.max_epochs, trainer.max_steps)
    return min([at_most, *(limit for limit in limits if limit is not None and limit >= 0)])


def _without_effect(trainer: Any) -> Iterator[tuple[str, object, str]]:
    """The arguments to refuse, each with its name, its value, and the reason with the remedy."""
    private = private_arguments(trainer)
    for argument, (accepted, remedy) in ACCEPTED.items():
        value = getattr(private, argument) if argument in private._fields else getattr(trainer, argument)
        if value not in accepted:
            yield argument, getattr(value, "value", value), remedy  # the value of an enumeration's member
    if trainer.precision == "16-mixed" and trainer.strategy.root_device.type == "cpu":
        yield "precision", trainer.precision, NEEDS_GPU
    if type(trainer.precision_plugin) not in PLUGINS:
        remedy = f"leave it out, and give trainer.precision, one of {', '.join(PRECISIONS)}"
        name = type(trainer.precision_plugin).__name__
        yield "plugins", name, f"not every engine calls a precision plugin's methods; {remedy}"
    every, seconds = trainer.check_val_every_n_epoch, private.seconds_between_validations
    interval = f"{seconds} s" if seconds is not None else trainer.val_check_interval
    if every is not None and every < 1:
        yield "check_val_every_n_epoch", every, "it must be at least 1, which validates each round"
    if seconds is not None or (every is not None and interval != 1):
        remedy = "validate every n-th round by trainer.check_val_every_n_epoch"
        yield "val_check_interval", interval, f"a round is one batch; leave it out, and {remedy}"
    for argument, least in (("min_epochs", trainer.min_epochs), ("min_steps", trainer.min_steps)):
        if least and (last := last_round(trainer, least)) < least:
            yield argument, least, f"training ends after {last} rounds; lower it, or raise trainer.max_epochs"
    if isinstance(trainer.strategy, SHARDING):
        yield "strategy", type(trainer.strategy).__name__, "each rank trains whole clients; use ddp or auto"
