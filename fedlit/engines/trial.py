"""A client of a user's own, tried before the first round: its fit follows from the task, the data and what is sent."""

from __future__ import annotations

import torch

from fedlit.clients.client import ClientModule
from fedlit.clients.nets import parameter_beside
from fedlit.core.errors import InputError
from fedlit.core.private_torch import compiled_parts
from fedlit.core.records import Broadcast, ClientTask, ClientUpdate
from fedlit.core.seeding import isolated_rng
from fedlit.engines.site import Site
from fedlit.engines.trainer import TrainerEngine

#: Mini-batches of a fit that is tried, at most.
STEPS = 2


def check_client(client: ClientModule, site: Site, sent: Broadcast, task: ClientTask) -> None:
    """Refuse a client that has something to train beside its net, or whose fit is another one each time.

    Nothing is said of one whose fit fails on its data, which is its round's matter, or whose net is compiled, which
    takes long.

    Args:
        client: Of a class of one's own, on the site's device, and made for this.
        site: Where it is trained.
        sent: This round's broadcast.
        task: Of one that will train.

    Raises:
        InputError: Naming the parameter, or what differs.
    """
    name = type(client).__name__
    if parameter := parameter_beside(client.net, client):
        raise InputError(
            f"{name} has a parameter {parameter} beside its net, which is neither trained, sent nor averaged; make "
            "it a part of model.net, or set its requires_grad to False"
        )
    if compiled_parts(client.net):
        return
    client.receive(sent)
    updates = []
    for _ in range(2):
        with isolated_rng(0, site.device), torch.enable_grad():
            (answer,) = TrainerEngine().run(client, [task._replace(steps=min(task.steps, STEPS), kept=None)], site)
        if not isinstance(answer, ClientUpdate):
            return
        updates.append(answer)
    first, again = updates
    if not torch.allclose(first.weights.floats, again.weights.floats, rtol=1e-3, atol=1e-6, equal_nan=True):
        raise InputError(
            f"{name} trains a client otherwise each time, from the same model, data and draws: it keeps something from "
            "fit to fit, as in an attribute, which the clients of a process would share; set it anew in start(task), "
            "or keep it with the client, by the end of an Algorithm"
        )
