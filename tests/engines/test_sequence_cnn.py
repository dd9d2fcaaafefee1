"""The network for sequences trains by every engine alike, on arrays (N, T, ...) and on simulated sensors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from federations import fit, weights
from sequences import steps
from torch.optim import SGD

from fedlit import attention
from fedlit.data import FederatedData, SimulatedSensors, Tensors
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import FederatedLoop, FederatedModule
from fedlit.models import SequenceCNN

GATES = [None, attention.Temporal, attention.Sensorwise, attention.SpatioTemporal]


def arrays() -> Tensors:
    """Sequences (N, 7, 3, 2): the mean over time is largest at the label."""
    inputs, labels = steps()
    twice = inputs[..., None].repeat(2, axis=-1)
    return Tensors(train=(twice, labels), test=(twice[:9], labels[:9]), num_clients=6, batch_size=4, seed=0)


def sensors() -> SimulatedSensors:
    return SimulatedSensors(num_clients=5, recordings=12, steps=10, classes=3, batch_size=4, seed=0)


def run(gate: type | None, data: Callable[[], FederatedData], engine: Engine) -> tuple[torch.Tensor, dict[str, float]]:
    """Weights and metrics after two rounds of four clients."""
    torch.manual_seed(0)
    net = SequenceCNN(gate, num_classes=3, widths=[3, 4], kernel_size=3)
    module = FederatedModule(net, mu=0.1, client_optimizer=lambda p: SGD(p, lr=0.1))
    fit(module, FederatedLoop(4, 2, seed=0, engine=engine), data())  # type: ignore[arg-type]
    metrics = {k: v for k, v in module.round_metrics.items() if not k.endswith(("seconds", "per_second"))}
    return weights(module), metrics


@pytest.mark.parametrize("data", [arrays, sensors])
@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.__name__ if gate else "plain")
def test_every_engine_gives_what_the_loop_gives(gate: type | None, data: Callable[[], FederatedData]) -> None:
    expected, metrics = run(gate, data, LoopEngine())
    for engine in (TrainerEngine(), WorkersEngine(workers=2)):
        assert torch.equal(run(gate, data, engine)[0], expected)
    for engine in (VectorizedEngine(2), VectorizedEngine(trace=False)):
        found, same = run(gate, data, engine)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert same == pytest.approx(metrics, rel=1e-3, abs=1e-5)


def test_the_drift_of_its_gates_is_measured_by_itself() -> None:
    assert "drift/attention" not in run(None, sensors, LoopEngine())[1]
    assert run(attention.SpatioTemporal, sensors, LoopEngine())[1]["drift/attention"] > 0
