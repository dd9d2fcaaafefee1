"""A block of clients as one program: narrowing, tracing, and no state between rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from federations import data, fit, net, weights
from lightning import Callback
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import get_innermost_proxy_mode
from torch.optim import SGD, Adam, AdamW, NAdam, Optimizer

from fedlit.core.errors import InputError
from fedlit.engines import Engine, LoopEngine, VectorizedEngine, WorkersEngine
from fedlit.engines import vectorized as module
from fedlit.federated import ClientUpdate, ConstantMu, FederatedLoop, FederatedModule

#: With batches of 4 and three passes: 300, 3, 48, 9, 120 and 18 steps.
UNEVEN = (400, 3, 61, 9, 157, 21)
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": lambda p: SGD(p, lr=0.05),
    "momentum": lambda p: SGD(p, lr=0.02, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: Adam(p, lr=0.003),
    "nadam": lambda p: NAdam(p, lr=0.003),
}


class Peek(VectorizedEngine):
    """Tells afterwards whether each of its programs was traced."""

    def close(self) -> None:
        self.traced = [program is not None for program in self._programs.values()]
        super().close()


class ByRound(Callback):
    """Sets the proximal term's strength to the number of the round."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.mu = ConstantMu(float(trainer.current_epoch))


def train(
    engine: Engine, net: nn.Module, optimizer: str = "sgd", sizes: tuple[int, ...] = UNEVEN, **kwargs: Any
) -> tuple[Tensor, dict[str, float], list[ClientUpdate]]:
    """Weights, metrics and updates after two rounds of all the clients, three local epochs each."""
    updates: list[ClientUpdate] = []
    loop = FederatedLoop(len(sizes), local_epochs=3, seed=1, engine=engine)
    loop.on_update.append(updates.append)
    module = FederatedModule(net, mu=0.5, client_optimizer=OPTIMIZERS[optimizer])
    fit(module, loop, data(sizes), **kwargs)
    metrics = {k: v for k, v in module.round_metrics.items() if not k.endswith(("seconds", "per_second"))}
    return weights(module), metrics, updates


def assert_same(engine: Engine, net: Callable[[], nn.Module], **kwargs: Any) -> None:
    """Assert that an engine agrees with ``LoopEngine`` to rounding, in the server's weights and each client's."""
    expected, metrics, updates = train(LoopEngine(), net(), **kwargs)
    result, same_metrics, same_updates = train(engine, net(), **kwargs)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
    assert same_metrics == pytest.approx(metrics, rel=1e-3, abs=1e-6)
    mine = {(u.task.round, u.task.client): u for u in same_updates}
    assert len(mine) == len(updates)
    for update in updates:
        same = mine[update.task.round, update.task.client]
        torch.testing.assert_close(same.weights.floats, update.weights.floats, rtol=1e-3, atol=1e-4)
        assert dict(same.metrics) == pytest.approx(dict(update.metrics), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("trace", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_block_of_very_uneven_clients_gives_the_same_to_rounding(optimizer: str, trace: bool):
    engine = Peek(trace=trace)
    assert_same(engine, net, optimizer=optimizer)
    assert engine.traced == ([True] * 4 if trace else [])  # 6, 4, 2 clients and 1


def test_a_short_block_is_not_traced():
    engine = Peek()
    assert_same(engine, net, sizes=(40, 3, 17))
    assert engine.traced == []


def test_frozen_parameters_and_buffers_are_traced_as_inputs():
    class Frozen(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(*net())
            self[0].requires_grad_(False)
            self.register_buffer("scale", torch.full((3,), 0.5))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.scale

    engine = Peek()
    assert_same(engine, Frozen)
    assert all(engine.traced)


def test_a_trace_outlives_a_round_and_nothing_of_the_round_does(monkeypatch):
    traced: list[object] = []

    def trace(*arguments: Any) -> Any:
        traced.append(arguments)
        return real(*arguments)

    real = module.traced
    monkeypatch.setattr(module, "traced", trace)
    assert_same(VectorizedEngine(), net, callbacks=[ByRound()], rounds=3)
    assert len(traced) == 4


def test_programs_are_released():
    engine = VectorizedEngine()
    train(engine, net())
    assert engine._programs == {}


def test_a_network_that_cannot_be_traced_trains_untraced():
    class Untraceable(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(*net())

        def forward(self, x: Tensor) -> Tensor:
            if get_innermost_proxy_mode() is not None:
                raise RuntimeError("not to be traced")
            return super().forward(x)

    engine = Peek()
    assert_same(engine, Untraceable)
    assert engine.traced == [False] * 4


def test_outputs_that_are_the_parameters_are_counted_before_they_move():
    class Offsets(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.offsets = nn.Parameter(torch.tensor([0.3, 0.2, 0.1]))

        def forward(self, x: Tensor) -> Tensor:
            return self.offsets.expand(len(x), -1)

    engine = Peek()
    assert_same(engine, Offsets)
    assert all(engine.traced)
    assert_same(VectorizedEngine(trace=False), Offsets)


def test_mixed_precision_is_right_and_not_traced():
    engine = Peek()
    expected, *_ = train(LoopEngine(), net(), precision="bf16-mixed")
    result, *_ = train(engine, net(), precision="bf16-mixed")
    torch.testing.assert_close(result, expected, rtol=0.02, atol=0.01)
    assert engine.traced == []


class Between(nn.Module):
    """A network in full precision within autocast."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return self.net(inputs)


def test_the_backward_pass_is_as_precise_as_the_forward_pass():
    assert_same(VectorizedEngine(2), Between, precision="bf16-mixed")


class Typed(nn.Module):
    """A network whose first layer has another type."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 8, dtype=dtype), nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs.to(self.first.weight.dtype)).relu()
        return self.last(hidden.to(self.last.weight.dtype))


@pytest.mark.parametrize(
    ("dtype", "said"),
    [
        (torch.bfloat16, "first.weight is torch.bfloat16, but would be trained in torch.float32"),
        (torch.float16, "first.weight is torch.float16, but would be trained in torch.float32"),
        (torch.float64, "last.weight is torch.float32, but would be trained in torch.float64"),
    ],
)
def test_parameters_that_would_be_trained_in_another_type_are_refused(dtype: torch.dtype, said: str):
    with pytest.raises(InputError, match=rf"^{said}, which VectorizedEngine does not support; use .* LoopEngine"):
        train(VectorizedEngine(), Typed(dtype))


class Tempered(nn.Module):
    """A network with a temperature, a tensor without dimensions."""

    def __init__(self, *, trained: bool) -> None:
        super().__init__()
        self.net, temperature = net(), torch.tensor(2.0)
        if trained:
            self.temperature = nn.Parameter(temperature)
        else:
            self.register_buffer("temperature", temperature)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.net(inputs) / self.temperature


@pytest.mark.parametrize("trained", [True, False])
def test_tensors_without_dimensions_are_trained(trained: bool):
    assert_same(VectorizedEngine(2), lambda: Tempered(trained=trained))


def test_workers_trace():
    result, *_ = train(WorkersEngine(VectorizedEngine(3), workers=2, block_size=3), net())
    torch.testing.assert_close(result, train(LoopEngine(), net())[0], rtol=1e-4, atol=1e-5)


class BadLabel(Callback):
    """In the first round a label of the first client is of no class."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        targets = trainer.datamodule.train.targets
        targets[30] = 99 if trainer.current_epoch == 0 else 0  # the first 20 are tested on as well


@pytest.mark.trust
def test_a_block_that_failed_is_traced_in_the_next_round():
    engine = Peek()
    with pytest.warns(UserWarning, match=r"1 of 6 fits of round 1 failed .*: client 0: RuntimeError: index 99 is out"):
        _, metrics, _ = train(engine, net(), callbacks=[BadLabel()])
    assert metrics["round/rejected"] == 0
    assert all(engine.traced)


class Scaled(SGD):
    """Steps by the norm of each whole tensor, as LARS does."""

    def step(self, closure: Any = None) -> Any:
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = parameter.grad / (1 + parameter.grad.norm())
        return super().step(closure)


def weights_alone_decay(parameters: Any) -> Optimizer:
    """Adam that lets biases be, which have one dimension."""
    given = list(parameters)
    wide, narrow = ([p for p in given if (p.dim() > 1) == is_wide] for is_wide in (True, False))
    return AdamW([{"params": wide, "weight_decay": 0.5}, {"params": narrow, "weight_decay": 0.0}], lr=0.01)


def first_alone_decays(parameters: Any) -> Optimizer:
    first, *others = parameters
    return AdamW([{"params": [first], "weight_decay": 0.5}, {"params": others, "weight_decay": 0.0}], lr=0.01)


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        (lambda p: Scaled(p, lr=0.1), "Scaled is not known to be elementwise"),
        (weights_alone_decay, r"model\.client_optimizer depends on the parameters' shapes"),
    ],
)
def test_optimizers_that_would_step_otherwise_on_a_stack_are_refused(optimizer: Any, said: str) -> None:
    module = FederatedModule(net(), client_optimizer=optimizer)
    with pytest.raises(InputError, match=rf"^{said}.*, which VectorizedEngine does not support"):
        fit(module, FederatedLoop(4, seed=0, engine=VectorizedEngine()))


def test_groups_of_parameters_keep_their_arguments_in_a_block() -> None:
    found = []
    for engine in (LoopEngine(), VectorizedEngine()):
        module = FederatedModule(net(), client_optimizer=first_alone_decays)
        found.append(weights(fit(module, FederatedLoop(4, seed=0, engine=engine))))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
