"""A client of a user's own, tried before the first round: its fit follows from the task, the data and what is sent."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fedlit.clients.client import ClientModule
from fedlit.core.errors import InputError
from fedlit.core.ours import is_ours
from fedlit.core.private_torch import compiled_parts
from fedlit.core.records import Broadcast, ClientTask, ClientUpdate
from fedlit.core.seeding import drawing_at
from fedlit.engines.site import Site
from fedlit.engines.trainer import TrainerEngine

#: Mini-batches of a fit that is tried, at most.
STEPS = 2


def check_client(make: Callable[[], ClientModule], site: Site, sent: Broadcast, task: ClientTask) -> None:
    """Refuse a client that has something to train beside its net, or whose fit is another one each time.

    Nothing is said of one whose fit fails on its data, which is its round's matter, or whose net is compiled, which
    takes long.

    Args:
        make: Makes a client.
        site: Where it is trained.
        sent: This round's broadcast.
        task: Of one that will train.

    Raises:
        InputError: Naming the parameter, or what differs.
    """
    client = make().to(site.device)
    name = type(client).__name__
    of_net = {id(parameter) for parameter in client.net.parameters()}
    for parameter, value in client.named_parameters():
        if value.requires_grad and id(value) not in of_net:
            raise InputError(
                f"{name} has a parameter {parameter} beside its net, which is neither trained, sent nor averaged; make "
                "it a part of model.net, or set its requires_grad to False"
            )
    if is_ours(client) or compiled_parts(client.net):
        return
    client.receive(sent)
    updates = []
    for _ in range(2):
        with drawing_at(0, site.device), torch.enable_grad():
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
