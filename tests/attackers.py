"""Clients that mean harm, for tests and for the table of ``python -m tests.benchmarks.attackers``."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
from torch import Tensor

from fedlit.core.seeding import generator
from fedlit.data.module import FederatedData
from fedlit.federated import ClientModule, ClientTask, ClientUpdate, FederatedModule


def honest(x: Tensor, task: ClientTask) -> Tensor:
    """What was there."""
    return x


class Attack(NamedTuple):
    """What an attacker does.

    Attributes:
        send: From its update w_k - w_t to the one that it sends.
        see: From the labels of a batch to those that it trains on.
    """

    send: Callable[[Tensor, ClientTask], Tensor] = honest
    see: Callable[[Tensor, ClientTask], Tensor] = honest


def noise(moved: Tensor, task: ClientTask) -> Tensor:
    """Normal noise of deviation 100 in place of the update."""
    drawn = torch.randn(moved.shape, generator=generator(task.seed, "attack", task.round, task.client))
    return 100 * drawn.to(moved)


def label_flip(classes: int) -> Attack:
    """Trains on class C - 1 - y for class y, and sends what came of it."""
    return Attack(see=lambda labels, task: classes - 1 - labels)


SIGN_FLIP = Attack(lambda moved, task: -10 * moved)
SCALED = Attack(lambda moved, task: -1000 * moved)
NOISE = Attack(noise)


def attacked(attack: Attack, attackers: Collection[int]) -> type[FederatedModule]:
    """The server of a federation in which some clients attack."""

    class Attacking(ClientModule):
        def start(self, task: ClientTask) -> None:
            super().start(task)
            self.task = task

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            inputs, labels = batch
            if self.task.client in attackers:
                labels = attack.see(labels, self.task)
            return super().training_step((inputs, labels), batch_idx)

        def finish(self, task: ClientTask, data: FederatedData) -> ClientUpdate:
            update = super().finish(task, data)
            if task.client not in attackers:
                return update
            start = self.broadcast.weights.floats
            floats = start + attack.send(update.weights.floats - start, task)
            return update._replace(weights=update.weights._replace(floats=floats))

    class Attacked(FederatedModule):
        client_class = Attacking

    return Attacked
