"""A plain training loop: the same fits as with a Trainer, without its cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from torch import Tensor
from torch.optim import Optimizer

from fedlit.clients.client import ClientModule
from fedlit.clients.members import changed_setting, lightning_members, overridden_member
from fedlit.clients.step_checks import check_steps
from fedlit.core.errors import InputError
from fedlit.core.records import ClientAnswer, ClientTask, ClientUpdate
from fedlit.engines.attempt import attempt
from fedlit.engines.engine import Engine
from fedlit.engines.scaling import gradient_scaler, with_skipped_steps
from fedlit.engines.site import Site

#: The members of a LightningModule that a fit here calls; only the client itself calls ``forward`` and ``log``.
CALLED_BY_LOOP = frozenset({"configure_optimizers", "forward", "log", "on_before_optimizer_step", "training_step"})


class LoopEngine(Engine):
    """Trains one client after the other in a plain loop, with the same bits as ``TrainerEngine``.

    It calls the methods that ``ClientModule`` defines (``training_step``, ``on_before_optimizer_step``,
    ``configure_optimizers``) in the Trainer's order and precision. A client that overrides another member of
    LightningModule, changes one of its settings or returns learning-rate schedulers is refused: it needs
    ``TrainerEngine``.
    """

    def check(self, client: ClientModule, site: Site) -> None:
        reason = needs_trainer(client)
        if reason:
            raise InputError(f"{reason}, which LoopEngine does not support; use federation.engine TrainerEngine")
        # This moves the client's parameters, but no fit starts from them.
        check_steps(f"{type(client).__name__}.configure_optimizers", single_optimizer(client))

    def run(self, client: ClientModule, tasks: Sequence[ClientTask], site: Site) -> Iterator[ClientAnswer]:
        precision = site.precision

        def fit(tasks: Sequence[ClientTask]) -> list[ClientUpdate]:
            (task,) = tasks
            client.start(task)
            optimizer = single_optimizer(client)
            scaler = gradient_scaler(site.device.type, precision.precision == "16-mixed")
            batches = site.data.client_batches(task.client, task.round, task.seed)
            for batch_idx, batch in islice(passes(batches), task.steps):
                optimizer.zero_grad()
                with precision.forward_context():
                    loss = client.training_step(precision.convert_input(batch), batch_idx)
                scaler.scale(_check_loss_type(loss, client)).backward()
                scaler.unscale_(optimizer)
                client.on_before_optimizer_step(optimizer)
                scaler.step(optimizer)
                scaler.update()
            return [with_skipped_steps(client.finish(task, site.data), scaler)]

        for task in tasks:
            yield from attempt(fit, [task])


def needs_trainer(client: ClientModule) -> str | None:
    """Why a client needs a Trainer for its fit, as a clause for a message; None if it does not."""
    return overridden_member(client, lightning_members(), CALLED_BY_LOOP) or changed_setting(client)


def single_optimizer(client: ClientModule) -> Optimizer:
    """The one optimizer of a client.

    Raises:
        InputError: If ``configure_optimizers`` returns anything else.
    """
    optimizer = client.configure_optimizers()
    if not isinstance(optimizer, Optimizer):
        raise InputError(
            f"{type(client).__name__}.configure_optimizers returned a {type(optimizer).__name__}, not one optimizer; "
            "use federation.engine TrainerEngine for schedulers"
        )
    return optimizer


def _check_loss_type(loss: object, client: ClientModule) -> Tensor:
    """Return the result of ``training_step`` if it is a tensor, the batch's loss.

    Raises:
        InputError: If it is anything else.
    """
    if not isinstance(loss, Tensor):
        raise InputError(
            f"{type(client).__name__}.training_step returned a {type(loss).__name__}, not the loss of the batch; "
            "return the loss, or use federation.engine TrainerEngine, which also takes a dict, or None to skip a batch"
        )
    return loss


def passes(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """The batches of endless passes, each with its number in its pass, from 0.

    Raises:
        InputError: If a pass has no batch.
    """
    while True:
        number = -1
        for number, batch in enumerate(batches):
            yield number, batch
        if number < 0:
            raise InputError("the client has no batch to train on; give each client that trains some examples")
