"""Attentive aggregation against its formula, written out."""

from __future__ import annotations

import math

import pytest
import torch
from federations import data, fit, net, weights
from torch.optim import SGD

from fedlit.algorithms import AttentiveAggregation
from fedlit.core.errors import InputError
from fedlit.core.layout import Layout, read_state
from fedlit.federated import ClientUpdate, FederatedLoop, FederatedModule


def run(algorithm: AttentiveAggregation | None, averaging: str = "uniform", rounds: int = 1, **kwargs: object):
    updates: list[ClientUpdate] = []
    module = FederatedModule(net(norm=True), client_optimizer=lambda p: SGD(p, lr=0.1))
    start = read_state(module.net, module.layout)
    loop = FederatedLoop(4, 2, seed=0, algorithm=algorithm, averaging=averaging, **kwargs)
    loop.on_update.append(updates.append)
    return weights(fit(module, loop, data((8, 4, 16, 4, 12, 6)), rounds=rounds).net), start.floats, updates, module


@pytest.mark.parametrize("by", ["distance", "similarity"])
@pytest.mark.parametrize("averaging", ["size", "uniform"])
def test_the_server_weighs_each_layer_by_a_softmax_over_clients(by: str, averaging: str):
    temperature = 0.3
    result, start, updates, module = run(AttentiveAggregation(by, temperature), averaging)
    layout = Layout.of(module.net)
    prior = [u.task.num_examples if averaging == "size" else 1.0 for u in updates]
    moved = [layout.split(u.weights.floats.double() - start.double()) for u in updates]
    at = layout.split(start.double())
    got = module.net.state_dict()
    for name in layout.trainable:
        deltas = [m[name] for m in moved]
        average = sum(p * d for p, d in zip(prior, deltas, strict=True)) / sum(prior)
        if by == "distance":
            scores = [float(d.norm()) for d in deltas]
        else:
            scores = [float(torch.cosine_similarity(d, average, dim=0)) for d in deltas]
        attention = [p * math.exp(s / temperature) for p, s in zip(prior, scores, strict=True)]
        expected = at[name] + sum(a * d for a, d in zip(attention, deltas, strict=True)) / sum(attention)
        torch.testing.assert_close(got[name].double().reshape(-1), expected, rtol=1e-4, atol=1e-6)
    assert result.isfinite().all()


@pytest.mark.parametrize("by", ["distance", "similarity"])
def test_at_infinite_temperature_it_is_fedavg(by: str):
    attentive, *_ = run(AttentiveAggregation(by, math.inf), "size", rounds=3)
    fedavg, *_ = run(None, "size", rounds=3)
    torch.testing.assert_close(attentive, fedavg, rtol=1e-5, atol=1e-7)


def test_at_low_temperature_one_client_is_all():
    _, _, updates, module = run(AttentiveAggregation("distance", 1e-4))
    start = read_state(net(norm=True), module.layout).floats
    layout = module.layout
    name = layout.trainable[0]
    moved = [layout.split(u.weights.floats)[name] - layout.split(start)[name] for u in updates]
    farthest = max(range(4), key=lambda k: float(moved[k].norm()))
    expected = layout.split(updates[farthest].weights.floats)[name]
    torch.testing.assert_close(module.net.state_dict()[name].reshape(-1), expected)


def test_buffers_are_averaged_plainly():
    _, _, updates, module = run(AttentiveAggregation("distance", 0.1), "size")
    name = "1.running_mean"
    sizes = [u.task.num_examples for u in updates]
    means = [module.layout.split(u.weights.floats)[name] for u in updates]
    expected = sum(n * m for n, m in zip(sizes, means, strict=True)) / sum(sizes)
    torch.testing.assert_close(module.net.state_dict()[name], expected)


def test_a_temperature_of_0_is_refused():
    with pytest.raises(InputError, match=r"temperature must be > 0, got 0; 1 is the paper's"):
        AttentiveAggregation(temperature=0)
