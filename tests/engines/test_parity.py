"""Every engine computes the same as the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from federations import Watch, cnn, fit, images, net, weights
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

import fedlit.attention as attention
from fedlit.algorithms import Algorithm
from fedlit.core.errors import InputError
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import ClientModule, ClientUpdate, FederatedLoop, FederatedModule, PartialWork
from fedlit.models import SoftmaxRegression
from fedlit.schedules import Cosine, Exponential, Step


def sgd(parameters: object) -> Optimizer:
    return SGD(parameters, lr=0.1)


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[..., Optimizer], float]] = {
    "plain": (cnn, sgd, 1),
    "channel": (lambda: cnn(attention.Channel), sgd, 1),
    "channel_mlp": (lambda: cnn(attention.ChannelMLP), sgd, 1),
    "squeeze_excite": (lambda: cnn(attention.SqueezeExcite), sgd, 1),
    "eca": (lambda: cnn(attention.ECA), sgd, 1),
    "spatial": (lambda: cnn(attention.Spatial), sgd, 1),
    "spatial with group norm": (lambda: cnn(lambda c: attention.Spatial(c, norm="group")), sgd, 1),
    "spatial with batch norm": (lambda: cnn(lambda c: attention.Spatial(c, norm="batch")), sgd, 1),
    "cbam": (lambda: cnn(attention.CBAM), sgd, 1),
    "global_spatial": (lambda: cnn(attention.GlobalSpatial), sgd, 1),
    "spatio_temporal": (lambda: cnn(attention.SpatioTemporal), sgd, 1),
    "group norm": (lambda: cnn(norm="group"), sgd, 1),
    "batch norm": (lambda: cnn(norm="batch"), sgd, 1),
    "dropout": (lambda: cnn(dropout=0.5), sgd, 1),
    "softmax regression": (lambda: SoftmaxRegression(num_classes=3, image_size=8), sgd, 1),
    "momentum, three epochs": (cnn, lambda p: SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01), 3),
    "adam, two epochs and a half": (cnn, lambda p: Adam(p, lr=0.01), 2.5),
    "adamw, half an epoch": (cnn, lambda p: AdamW(p, lr=0.01), 0.5),
    "falling rate": (cnn, sgd, 1),
    "falling rate of adam": (cnn, lambda p: Adam(p, lr=0.01), 2),
    "clipped": (cnn, sgd, 2),
    "clipped, with momentum and a falling rate": (cnn, lambda p: SGD(p, lr=0.05, momentum=0.9), 2),
}
#: Arguments of the server's module, where a case has some.
OPTIONS: dict[str, dict[str, Any]] = {
    "falling rate": {"client_schedule": Exponential(0.5), "server_schedule": Step(1, 0.8)},
    "falling rate of adam": {"client_schedule": Cosine(3)},
    "clipped": {"client_clip_norm": 0.5},
    "clipped, with momentum and a falling rate": {"client_clip_norm": 0.5, "client_schedule": Exponential(0.5)},
}
NOT_VECTORIZED = {
    "batch norm": "BatchNorm2d",
    "dropout": "drops out with p = 0.5",
    "spatial with batch norm": "BatchNorm2d",
}


def run(case: str, engine: Engine, **trainer: object) -> tuple[torch.Tensor, dict[str, float], list[ClientUpdate]]:
    """Weights, metrics and updates after two rounds of five of the six clients."""
    make, optimizer, epochs = CASES[case]
    updates: list[ClientUpdate] = []
    loop = FederatedLoop(5, epochs, seed=2, engine=engine)
    loop.on_update.append(updates.append)
    server = FederatedModule(make(), mu=0.1, client_optimizer=optimizer, **OPTIONS.get(case, {}))
    module = fit(server, loop, images(), rounds=2, **trainer)
    metrics = {k: v for k, v in module.round_metrics.items() if not k.endswith(("seconds", "per_second"))}
    return weights(module), metrics, updates


@pytest.mark.parametrize("case", CASES)
def test_the_loop_gives_the_references_bits(case: str):
    expected, metrics, _ = run(case, TrainerEngine())
    result, same_metrics, _ = run(case, LoopEngine())
    assert torch.equal(result, expected)
    assert same_metrics == metrics


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_workers_give_the_same_bits_however_many(case: str, workers: int):
    expected, metrics, updates = run(case, LoopEngine())
    result, same_metrics, same_updates = run(case, WorkersEngine(workers=workers))
    assert torch.equal(result, expected)
    assert same_metrics == metrics
    assert [u.task for u in same_updates] == [u.task for u in updates]


@pytest.mark.parametrize("engine", [LoopEngine(), WorkersEngine(workers=2)])
def test_the_bits_are_the_references_in_mixed_precision(engine: Engine):
    expected, *_ = run("plain", TrainerEngine(), precision="bf16-mixed")
    result, *_ = run("plain", engine, precision="bf16-mixed")
    assert torch.equal(result, expected)


class InAutocast(ClientModule):
    """Tells where autocast is on: in a training step, in the backward pass, at an optimizer's step, and afterwards."""

    def training_step(self, batch, batch_idx):
        self.log("in_step", torch.is_autocast_enabled("cpu"))
        loss = super().training_step(batch, batch_idx)
        loss.register_hook(lambda gradient: self.log("in_backward", torch.is_autocast_enabled("cpu")))
        return loss

    def on_before_optimizer_step(self, optimizer):
        self.log("at_optimizer", torch.is_autocast_enabled("cpu"))
        super().on_before_optimizer_step(optimizer)

    def measure(self, task, data):
        return super().measure(task, data) | {"in_measure": float(torch.is_autocast_enabled("cpu"))}


class ServerInAutocast(Algorithm):
    """Tells whether autocast is on at the server."""

    def __init__(self):
        self.seen: list[bool] = []

    def transform(self, sent, update):
        self.seen.append(torch.is_autocast_enabled("cpu"))
        return update

    def conclude(self, state, sent, average):
        self.seen.append(torch.is_autocast_enabled("cpu"))
        return super().conclude(state, sent, average)


@pytest.mark.parametrize("engine", [LoopEngine(), TrainerEngine(), WorkersEngine(workers=2)])
def test_only_training_steps_are_in_mixed_precision(engine: Engine):
    algorithm = ServerInAutocast()
    loop = FederatedLoop(3, 1, seed=0, engine=engine, algorithm=algorithm)
    module = FederatedModule(net(), client=InAutocast)
    metrics = fit(module, loop, rounds=2, precision="bf16-mixed").round_metrics
    found = {name: metrics[f"clients/{name}_mean"] for name in ("in_step", "in_backward", "at_optimizer", "in_measure")}
    assert found == {"in_step": 1, "in_backward": 0, "at_optimizer": 0, "in_measure": 0}
    assert algorithm.seen
    assert not any(algorithm.seen)


@pytest.mark.parametrize("case", OPTIONS)
@pytest.mark.parametrize("engine", [LoopEngine(), WorkersEngine(workers=2)])
def test_rates_and_clipping_are_the_references_in_mixed_precision(engine: Engine, case: str):
    expected, *_ = run(case, TrainerEngine(), precision="bf16-mixed")
    result, *_ = run(case, engine, precision="bf16-mixed")
    assert torch.equal(result, expected)


@pytest.mark.parametrize("case", ["falling rate", "clipped"])  # Adam's first steps have the size of its rate, whatever
def test_rates_and_clipping_are_the_references_to_rounding_in_a_batched_program(
    case: str,
):  # the gradient: a rounding error turns them around
    expected, *_ = run(case, TrainerEngine(), precision="bf16-mixed")
    result, *_ = run(case, VectorizedEngine(2), precision="bf16-mixed")
    torch.testing.assert_close(result, expected, rtol=0.02, atol=0.01)


@pytest.mark.parametrize("case", OPTIONS)
def test_rates_and_clipping_change_the_result(case: str, monkeypatch: pytest.MonkeyPatch):
    with_options, *_ = run(case, LoopEngine())
    monkeypatch.setitem(OPTIONS, case, {})
    without, *_ = run(case, LoopEngine())
    assert (with_options - without).abs().max() > 1e-3


def test_workers_run_batched_programs():
    expected, *_ = run("plain", VectorizedEngine(2))
    result, *_ = run("plain", WorkersEngine(VectorizedEngine(2), workers=2, block_size=2))
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block_size", [1, 2, 50])
@pytest.mark.parametrize("case", [case for case in CASES if case not in NOT_VECTORIZED])
def test_a_batched_program_gives_the_same_to_rounding(case: str, block_size: int):
    expected, metrics, updates = run(case, LoopEngine())
    result, same_metrics, same_updates = run(case, VectorizedEngine(block_size))
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
    assert same_metrics == pytest.approx(metrics, rel=1e-3, abs=1e-6)
    mine = {(u.task.round, u.task.client): u for u in same_updates}
    assert len(mine) == len(updates)
    for update in updates:
        assert mine[update.task.round, update.task.client].metrics["samples"] == update.metrics["samples"]


@pytest.mark.parametrize("case", NOT_VECTORIZED)
def test_clients_that_cannot_be_batched_are_refused(case: str):
    with pytest.raises(InputError, match=rf"{NOT_VECTORIZED[case]}.*use federation\.engine LoopEngine"):
        run(case, VectorizedEngine())


def test_a_client_with_a_hook_of_its_own_needs_the_trainer():
    class Client(ClientModule):
        def on_train_batch_start(self, batch, batch_idx):
            self.batches = getattr(self, "batches", 0) + 1

    class Module(FederatedModule):
        client_class = Client

    with pytest.raises(InputError, match=r"Client overrides on_train_batch_start.*TrainerEngine"):
        fit(Module(net()), FederatedLoop(2, seed=0, engine=LoopEngine()))
    watch = Watch()
    fit(Module(net()), FederatedLoop(2, seed=0, engine=TrainerEngine()), callbacks=[watch])
    assert watch.session.client.batches > 0


def test_a_second_fit_of_a_client_trains_as_the_first():
    """Reused Trainers have been known not to train their second model."""
    for engine in (TrainerEngine(), LoopEngine(), VectorizedEngine(), WorkersEngine()):
        updates: list[ClientUpdate] = []
        loop = FederatedLoop(6, seed=0, engine=engine)
        loop.on_update.append(updates.append)
        fit(loop=loop, rounds=3)
        starts = {u.task.round: u for u in updates}
        assert len(updates) == 18
        assert len(starts) == 3
        assert all(u.weights.floats.isfinite().all() for u in updates)
        assert len({u.weights.floats.sum().item() for u in updates}) == 18


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("engine", [LoopEngine(), WorkersEngine(workers=2), VectorizedEngine(2)])
def test_stragglers_do_the_same_work_in_every_engine(engine: Engine, drop: bool):
    def straggling(chosen: Engine) -> tuple[torch.Tensor, list[tuple[int, int, int]]]:
        done: list[tuple[int, int, int]] = []
        loop = FederatedLoop(6, 3, seed=2, stragglers=PartialWork(0.5, drop), engine=chosen)
        loop.on_update.append(lambda u: done.append((u.task.round, u.task.client, u.task.steps)))
        module = fit(FederatedModule(cnn(), mu=0.1, client_optimizer=sgd), loop, images(), rounds=2)
        return weights(module), sorted(done)

    expected, work = straggling(TrainerEngine())
    result, same_work = straggling(engine)
    assert same_work == work
    assert len(work) == (6 if drop else 12)
    if isinstance(engine, VectorizedEngine):
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
    else:
        assert torch.equal(result, expected)
