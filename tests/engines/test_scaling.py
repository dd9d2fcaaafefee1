"""In 16-mixed a fit begins at a scale that suits small networks, and skipped steps are counted."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from federations import data, fit, net
from lightning.pytorch.plugins import Precision
from torch import Tensor
from torch.optim import SGD

from fedlit.core.records import ClientUpdate
from fedlit.engines import LoopEngine, Site
from fedlit.engines.scaling import INITIAL_SCALE, gradient_scaler, skipped_steps
from fedlit.federated import ClientModule, FederatedLoop, FederatedModule


def step(scaler: Any, weight: Tensor, gradient: float) -> None:
    """One step on a loss whose scaled gradient is ``gradient`` times the scale."""
    optimizer = SGD([weight], lr=1.0)
    weight.grad = torch.full_like(weight, gradient) * scaler.scale(torch.ones(()))
    scaler.step(optimizer)
    scaler.update()


def test_a_skipped_step_halves_the_scale_and_is_counted():
    scaler, weight = gradient_scaler("cpu"), torch.zeros(1, requires_grad=True)
    for gradient in (1.0, math.inf, 2.0, math.inf, 4.0):
        step(scaler, weight, gradient)
    assert weight.item() == -7  # the steps on finite gradients, unscaled
    assert skipped_steps(scaler) == 2
    assert scaler.get_scale() == INITIAL_SCALE / 4


def test_the_scale_does_not_grow_so_no_later_step_is_lost_to_finding_it():
    scaler, weight = gradient_scaler("cpu"), torch.zeros(1, requires_grad=True)
    for _ in range(2100):  # PyTorch doubles its scale after 2,000
        step(scaler, weight, 0.0)
    assert skipped_steps(scaler) == 0
    assert scaler.get_scale() == INITIAL_SCALE


def test_a_fit_that_diverged_is_counted_too():
    """Its scale falls to 0."""
    scaler, weight = gradient_scaler("cpu"), torch.zeros(1, requires_grad=True)
    for _ in range(200):
        step(scaler, weight, math.nan)
    assert scaler.get_scale() == 0
    assert skipped_steps(scaler) == 159


def test_without_a_scaler_nothing_is_counted():
    assert skipped_steps(gradient_scaler("cpu", enabled=False)) == 0


class Half(Precision):
    """Claims to be 16-mixed on a CPU, where Lightning has none; computes in float32."""

    precision = "16-mixed"


class Overflowing(ClientModule):
    """The gradients of every second client overflow in its first step."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * (math.inf if self.overflows and batch_idx == 0 else 1.0)

    def start(self, task: Any) -> None:
        super().start(task)
        self.overflows = task.client % 2 == 0


def test_the_bare_loop_reports_the_steps_that_a_fit_skipped():
    module = FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=0.1), client=Overflowing)
    federation = data()
    loop = FederatedLoop(4, seed=0, engine=LoopEngine())
    federation.setup()
    client, tasks = module.client_with(loop.algorithm), loop.cohort(0, federation)
    client.receive(module_broadcast(module, client))
    found = {}
    for answer in LoopEngine().run(client, tasks, Site(federation, torch.device("cpu"), Half())):
        assert isinstance(answer, ClientUpdate)
        found[answer.task.client] = answer.metrics["skipped_steps"]
    assert found == {task.client: 2.0 * (task.client % 2 == 0) for task in tasks}  # the first step of two passes


def module_broadcast(module: FederatedModule, client: ClientModule) -> Any:
    from fedlit.core.layout import read_state
    from fedlit.core.records import Broadcast

    start = read_state(module.net, module.layout)
    return Broadcast(start, (0.0,) * len(module.layout.trainable), torch.zeros(0))


class Reporting(LoopEngine):
    """Reports a skipped step of each fit, as on a GPU."""

    def run(self, *args: Any) -> Any:
        for answer in super().run(*args):
            assert isinstance(answer, ClientUpdate)
            yield answer._replace(metrics={**answer.metrics, "skipped_steps": 1.0})


def test_skipped_steps_are_a_metric_of_the_round_and_warned_of_once():
    module = FederatedModule(net(), client_optimizer=lambda p: SGD(p, lr=0.1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(module, FederatedLoop(4, seed=0, engine=Reporting()), rounds=3)
    told = [str(each.message) for each in caught if "overflow float16" in str(each.message)]
    assert len(told) == 1
    assert "bf16-mixed" in told[0]
    assert module.round_metrics["round/skipped_steps"] == 4
