"""FedNova against the formulas of its paper."""

from __future__ import annotations

import pytest
import torch
from federations import data, fit, net, quadratic_module, quadratics, weights
from torch.optim import SGD, Adam

from fedlit.algorithms import FedNova
from fedlit.algorithms.fednova import normaliser
from fedlit.core.errors import InputError
from fedlit.federated import FederatedLoop, FederatedModule

POINTS = [[1.0, 0.0, 0.0], [0.0, -2.0, 1.0]]


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_without_momentum_and_proximal_term_the_normaliser_is_the_number_of_steps(steps: int):
    assert normaliser(steps, rate=0.1) == pytest.approx(steps)


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_with_momentum_the_normaliser_is_the_papers_formula(steps: int, rho: float):
    expected = (steps - rho * (1 - rho**steps) / (1 - rho)) / (1 - rho)
    assert normaliser(steps, rate=0.1, momentum=rho) == pytest.approx(expected)


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_with_a_proximal_term_the_normaliser_is_the_papers_formula(steps: int):
    rate, mu = 0.1, 0.7
    assert normaliser(steps, rate, mu=mu) == pytest.approx((1 - (1 - rate * mu) ** steps) / (rate * mu))


@pytest.mark.parametrize("momentum", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}])
@pytest.mark.parametrize("mu", [0.0, 0.3])
def test_the_normaliser_is_the_distance_of_pytorchs_sgd_for_a_gradient_of_1(momentum: dict[str, float], mu: float):
    w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = SGD([w], lr=0.2, **momentum)
    for _ in range(9):
        w.grad = 1 + mu * w.detach()
        optimizer.step()
    assert normaliser(9, 0.2, mu=mu, **momentum) == pytest.approx(-float(w.detach()) / 0.2)


def test_a_round_is_the_published_rule():
    # Batches of one: client 0 takes 1 step, client 1 takes 4, from w = 0, on F_k(w) = 1/2 |w - a_k|^2.
    federation = quadratics(POINTS, sizes=(1, 4))
    federation.batch_size = 1
    rate, a = 0.1, torch.tensor(POINTS, dtype=torch.float64)
    moved = [(1 - (1 - rate) ** steps) * a[k] for k, steps in enumerate((1, 4))]
    p, tau = (0.2, 0.8), (1, 4)
    tau_eff = sum(p_k * tau_k for p_k, tau_k in zip(p, tau, strict=True))
    expected = tau_eff * sum(p_k * m / tau_k for p_k, m, tau_k in zip(p, moved, tau, strict=True))
    loop = FederatedLoop(2, 1, seed=0, algorithm=FedNova())
    result = weights(fit(quadratic_module(lr=rate), loop, federation, rounds=1).net)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)


def test_equal_steps_make_it_fedavg():
    sizes = (8, 8, 8, 8)

    def run(algorithm: FedNova | None) -> torch.Tensor:
        module = FederatedModule(net(norm=True), client_optimizer=lambda p: SGD(p, lr=0.1, momentum=0.5))
        return weights(fit(module, FederatedLoop(3, 2, seed=0, algorithm=algorithm), data(sizes), rounds=3).net)

    torch.testing.assert_close(run(FedNova()), run(None), rtol=1e-4, atol=1e-6)


def test_optimizers_without_a_normaliser_are_refused():
    module = FederatedModule(net(), client_optimizer=lambda p: Adam(p))
    with pytest.raises(InputError, match="FedNova is defined for clients that train with SGD"):
        fit(module, FederatedLoop(4, 1, seed=0, algorithm=FedNova()))
