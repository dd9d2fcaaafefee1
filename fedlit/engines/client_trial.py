"""Tries out a user's client class before the first round: its fit must depend on task, data and broadcast alone."""

from __future__ import annotations

from contextlib import suppress

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from fedlit.clients.client import ClientModule
from fedlit.clients.gradients import evaluating
from fedlit.clients.nets import parameter_outside_net
from fedlit.core.errors import InputError
from fedlit.core.private_torch import compiled_parts
from fedlit.core.records import Broadcast, ClientTask, ClientUpdate
from fedlit.core.seeding import isolated_rng
from fedlit.engines.site import Site
from fedlit.engines.trainer import TrainerEngine

#: The most mini-batches of a trial fit.
STEPS = 2


def check_client(client: ClientModule, site: Site, sent: Broadcast, task: ClientTask) -> None:
    """Refuse a client with trainable parameters outside its net, or whose fits differ or write to what was sent.

    A fit that fails on its data is left to its round, and a compiled net is not tried, as that takes long.

    Args:
        client: The user's client, on the site's device; it is used for nothing else.
        site: Data, device and precision.
        sent: This round's broadcast.
        task: A task with at least one step.

    Raises:
        InputError: Naming the parameter, or the remedy.
    """
    name = type(client).__name__
    if parameter := parameter_outside_net(client.net, client):
        raise InputError(
            f"{name} has a parameter {parameter} outside of its net, which is neither trained, sent nor averaged; make "
            "it a part of model.net, or set its requires_grad to False"
        )
    if compiled_parts(client.net):
        return
    client.receive(sent)
    before = sent.weights.floats.clone()
    updates = []
    for _ in range(2):
        with isolated_rng(0, site.device), torch.enable_grad():
            (answer,) = TrainerEngine().run(client, [task._replace(steps=min(task.steps, STEPS), kept=None)], site)
        if not isinstance(answer, ClientUpdate):
            return
        if not torch.equal(sent.weights.floats.nan_to_num(), before.nan_to_num()):
            raise InputError(
                f"{name} writes to self.broadcast.weights, from which all clients of the round start, for example by "
                "BatchNorm in torch.func.functional_call; use copies, self.tensors_of(self.broadcast.weights.floats)"
            )
        updates.append(answer)
    first, again = updates
    if not torch.allclose(first.weights.floats, again.weights.floats, rtol=1e-3, atol=1e-6, equal_nan=True):
        raise InputError(
            f"{name} trains a client differently each time, from the same model, data and draws: it keeps state "
            "between fits, such as an attribute, which the clients of a process would share; reset it in start(task), "
            "or let the end method of an Algorithm keep it for each client"
        )


def warn_of_objective(client: ClientModule, site: Site, sent: Broadcast, task: ClientTask) -> None:
    """Warn if a client minimises another loss than diagnostics measure, which is ``model.loss`` of the net's logits.

    Args:
        client: The user's client, on the site's device; it is used for nothing else.
        site: Data, device and precision.
        sent: This round's broadcast.
        task: A task with at least one step.
    """
    pair = _losses(client, site, sent, task)
    if pair is not None and not torch.allclose(*pair, rtol=1e-3, equal_nan=True):
        rank_zero_warn(
            f"federation.diagnostics measures model.loss of the net's logits, but {type(client).__name__} has another "
            "loss in its training_step, so gamma and diagnostics/* are not those of the local problems; move the "
            "difference into model.loss or the net, or leave federation.diagnostics out"
        )


def _losses(client: ClientModule, site: Site, sent: Broadcast, task: ClientTask) -> tuple[Tensor, Tensor] | None:
    """The client's own loss of a mini-batch and ``model.loss``; None if a fit returns no loss or fails."""
    with suppress(Exception), isolated_rng(0, site.device), torch.no_grad(), evaluating(client.net):
        client.receive(sent)
        client.start(task._replace(kept=None))
        for parameter in client.parameters_:  # at the start of a fit, a term of the client's own may be zero
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
        inputs, targets = next(iter(site.data.client_batches(task.client, task.round, task.seed)))
        measured = client.loss(client.net(inputs), targets)
        given = client.training_step((inputs, targets), 0)
        return (given, measured) if isinstance(given, Tensor) else None
    return None
