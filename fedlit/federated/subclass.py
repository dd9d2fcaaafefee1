"""Checks of a user's own FederatedModule: what it adds or overrides takes effect, or is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lightning import LightningModule

from fedlit.clients.nets import parameter_outside_net
from fedlit.core.errors import InputError

if TYPE_CHECKING:
    from fedlit.federated.module import FederatedModule


#: Hooks of training by backpropagation, which a round never calls.
NEVER_CALLED = (
    "backward",
    "clip_gradients",
    "configure_gradient_clipping",
    "lr_scheduler_step",
    "on_after_backward",
    "on_before_backward",
    "on_before_zero_grad",
    "optimizer_step",
    "optimizer_zero_grad",
)
#: Hooks in whose place the Trainer calls those of the datamodule.
OF_DATAMODULE = (
    "predict_dataloader",
    "test_dataloader",
    "train_dataloader",
    "transfer_batch_to_device",
    "val_dataloader",
)


def _overridden(module: FederatedModule, hooks: Iterable[str]) -> Iterator[str]:
    """Those of Lightning's hooks that the module's class overrides."""
    return (hook for hook in hooks if getattr(type(module), hook) is not getattr(LightningModule, hook))


def check_data_hooks(module: FederatedModule) -> None:
    """Refuse hooks in whose place the Trainer calls those of the datamodule.

    Raises:
        InputError: Naming the hook.
    """
    for hook in _overridden(module, OF_DATAMODULE):
        raise InputError(
            f"{type(module).__name__} overrides {hook}, but the datamodule's is called; leave it out, and let the "
            "datamodule, a FederatedData, load and transform the data"
        )


def check_parts(module: FederatedModule) -> None:
    """Refuse parameters outside the net, hooks that no round calls, and a ``setup`` that does not call ``super()``.

    Raises:
        InputError: Naming the parameter, or the method.
    """
    name = type(module).__name__
    for hook in _overridden(module, NEVER_CALLED):
        raise InputError(
            f"{name} overrides {hook}, which no round calls; override it in a ClientModule, for clients' steps, or "
            "override server_step"
        )
    if not hasattr(module, "evaluation"):
        raise InputError(f"{name}.setup does not call super().setup(stage), which prepares what rounds need; call it")
    if parameter := parameter_outside_net(module.net, module):
        raise InputError(
            f"{name} has a parameter {parameter} outside of its net, but clients train only the net; make it a part "
            "of the net, or set its requires_grad to False"
        )


def check_server_optimizer(module: FederatedModule) -> None:
    """Refuse anything but one optimizer from ``configure_optimizers``.

    Raises:
        InputError: Naming the scheduler, or the number of optimizers.
    """
    trainer, name = module.trainer, f"{type(module).__name__}.configure_optimizers"
    if len(trainer.optimizers) != 1:
        raise InputError(f"{name} returns {len(trainer.optimizers)} optimizers; return one, as a round is one step")
    for config in trainer.lr_scheduler_configs:
        raise InputError(
            f"{name} returns a {type(config.scheduler).__name__}, which no round would step; return only the "
            "optimizer, and set model.server_schedule, for example to a schedule of fedlit.schedules"
        )
