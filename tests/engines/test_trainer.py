"""A Trainer for each fit: what only it supports."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from federations import data, fit, net
from torch import Tensor
from torch.optim import SGD

from fedlit.engines import TrainerEngine
from fedlit.federated import ClientAnswer, ClientModule, ClientUpdate, FederatedLoop, FederatedModule


class Manual(ClientModule):
    """Steps by itself, some times on each batch.

    Args:
        times: Number of steps on a batch.
        seen: Whether the Trainer sees them.
    """

    def __init__(self, *args: Any, times: int, seen: bool) -> None:
        super().__init__(*args)
        self.automatic_optimization = False
        self.times, self.seen = times, seen
        self.batches = 0

    def start(self, task: Any) -> None:
        super().start(task)
        self.batches = 0

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.batches += 1
        optimizer: Any = self.optimizers(use_pl_optimizer=self.seen)
        loss = super().training_step(batch, batch_idx)
        for _ in range(self.times):
            optimizer.zero_grad()
            self.manual_backward(self.loss(self.net(batch[0]), batch[1]))
            optimizer.step()
        self.log("batches", float(self.batches))
        return loss


@pytest.mark.parametrize(("times", "seen"), [(1, True), (2, True), (0, True), (1, False)])
def test_a_fit_has_its_batches_however_often_the_client_steps(times: int, seen: bool) -> None:
    module = FederatedModule(
        net(), mu=0.0, client_optimizer=lambda p: SGD(p, lr=0.1), client=partial(Manual, times=times, seen=seen)
    )
    loop = FederatedLoop(3, local_epochs=2, seed=0, engine=TrainerEngine())
    answers: list[ClientAnswer] = []
    loop.on_update.append(answers.append)
    fit(module, loop, data(), rounds=1)
    assert len(answers) == 3
    for answer in answers:
        assert isinstance(answer, ClientUpdate)
        assert answer.metrics["batches"] == pytest.approx((1 + answer.task.steps) / 2)  # the mean of 1, 2, ..., steps
