"""The accuracy of every client over the rounds, whether it takes part or not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from lightning import Trainer
from numpy.typing import NDArray
from torch import nn

from fedlit.clients.gradients import accuracy, evaluating
from fedlit.core.records import Broadcast, ClientTask
from fedlit.core.seeding import isolated_fit_rng
from fedlit.core.tables import write_table
from fedlit.data.examples import Batches
from fedlit.data.module import FederatedData, data_of
from fedlit.data.skew import skew_of_clients
from fedlit.federated.meter import spread
from fedlit.federated.module import FederatedModule
from fedlit.runs.by_round import ByRound
from fedlit.runs.evaluation import client_accuracy
from fedlit.sampling import steps_for


class ClientAccuracy(ByRound):
    """Writes ``rounds/clients_0005.csv`` after every k-th round and after the last one, with a row for each client.

    Its columns are ``round``, ``client``, ``samples``, the ``skew`` of its labels (see
    ``fedlit.data.skew.label_skew``), the ``accuracy`` on its own training examples and, with ``data.client_holdout``,
    the ``own_accuracy`` on its held-out examples. The model is the one with which the client would begin its next fit:
    the global model, with the client's own parts if there are any (``KeepLocal``, ``BatchNormPolicy``). The spread over
    the clients is logged as ``all_clients/accuracy_mean``, ``_std``, ``_p10`` and ``_p90``, and so on.

    Each time costs a forward pass over the training examples of all clients, on the first rank only. If a round trains
    a tenth of the clients for two epochs, that is about as much as two rounds.

    Args:
        every: Rounds k from one file to the next, at least 1.
    """

    pattern = "clients_{}.csv"

    def __init__(self, every: int = 5) -> None:
        super().__init__(every)

    def record(self, trainer: Trainer, module: FederatedModule, path: Path) -> None:
        data, round = data_of(trainer), trainer.global_step
        measured = accuracy_by_client(module, data)
        table = {"samples": data.partition.sizes, "skew": skew_of_clients(data), **measured}
        rows = zip(*(column.tolist() for column in table.values()), strict=True)
        write_table(path, ["round", "client", *table], ([round, k, *row] for k, row in enumerate(rows)))
        scalars: dict[str, float] = {}
        for name, values in measured.items():
            scalars |= spread(f"all_clients/{name}", values[~np.isnan(values)])
        for logger in trainer.loggers:
            logger.log_metrics(dict(scalars), step=round)  # a copy, as a logger may change it


def accuracy_by_client(module: FederatedModule, data: FederatedData) -> dict[str, NDArray[np.float64]]:
    """Accuracy (K,) of the model with which each client would begin its next fit.

    Returns:
        ``accuracy`` on its training examples and, with a ``client_holdout``, ``own_accuracy`` on the held-out ones;
        NaN for a client without examples.
    """
    if module.loop.algorithm.local:
        nets = personal_nets(module, data)
        pairs = [(_accuracy(net, data.client_eval_batches(k)), _own(net, data, k)) for k, net in enumerate(nets)]
        on_train, on_own = np.array(pairs).T
    else:
        with evaluating(module):
            on_train = client_accuracy(module, data)
        on_own = np.array([_own(module.net, data, k) for k in range(data.num_clients)])
    return {"accuracy": on_train} | ({"own_accuracy": on_own} if data.client_holdout else {})


def personal_nets(module: FederatedModule, data: FederatedData) -> Iterator[nn.Module]:
    """The network of each client as it would begin its next fit: one object, which the next client overwrites."""
    client, store = module.loop.session.client, module.loop.session.store
    client.receive(broadcast_after(module))
    tasks = [next_task(module, data, k) for k in range(data.num_clients)]
    for task in store.located(tasks) if store else tasks:
        with isolated_fit_rng():
            client.start(task)
        yield client.net


def broadcast_after(module: FederatedModule) -> Broadcast:
    """A broadcast of the model of the last finished round, with the learning rate of that round.

    It is not always the Trainer's present round: a Trainer that stops early has ended that one.
    """
    return module.broadcast(module.trainer.global_step - 1)


def next_task(module: FederatedModule, data: FederatedData, client: int) -> ClientTask:
    """The task that a client would get if it were drawn in the round that follows the finished ones.

    As in a cohort, a client without examples has one of 0 steps.
    """
    loop, size = module.loop, int(data.partition.sizes[client])
    return ClientTask(
        client=client,
        round=module.trainer.global_step,
        seed=loop.seed,
        steps=steps_for(size, data.batch_size, loop.local_epochs) if size else 0,
        epochs=loop.local_epochs if size else 0.0,
        num_examples=size,
        weight=1.0,
    )


def _own(net: nn.Module, data: FederatedData, client: int) -> float:
    batches = data.client_holdout_batches(client)
    return math.nan if batches is None else accuracy(net, batches)


def _accuracy(net: nn.Module, batches: Batches) -> float:
    return accuracy(net, batches) if batches.num_examples else math.nan
