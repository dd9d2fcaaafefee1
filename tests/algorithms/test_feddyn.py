"""FedDyn against Algorithm 1 of its paper, on quadratics where every step can be written down."""

from __future__ import annotations

import pytest
import torch
from federations import fit, net, quadratic_module, quadratics, weights
from torch import Tensor

from fedlit.algorithms import FedDyn
from fedlit.core.errors import InputError
from fedlit.federated import FederatedLoop, FederatedModule, MuByName
from fedlit.sampling import uniform_cohort

POINTS = [[0.0, 0.0, 0.0], [1.0, -2.0, 3.0], [4.0, 0.0, -1.0]]
ALPHA, RATE, EPOCHS = 0.5, 0.1, 3


def by_hand(rounds: int, cohort_size: int) -> Tensor:
    a = torch.tensor(POINTS, dtype=torch.float64)
    theta, h, memory = torch.zeros(3).double(), torch.zeros(3).double(), torch.zeros(3, 3).double()
    for round in range(rounds):
        cohort = uniform_cohort(3, cohort_size, seed=0, round=round).tolist()
        local = {}
        for k in cohort:
            w = theta.clone()
            for _ in range(EPOCHS):  # one full-batch step an epoch
                w -= RATE * ((w - a[k]) - memory[k] + ALPHA * (w - theta))
            memory[k] -= ALPHA * (w - theta)
            local[k] = w
        h -= ALPHA / 3 * sum(local[k] - theta for k in cohort)
        theta = sum(local.values()) / len(cohort) - h / ALPHA
    return theta


def feddyn(rounds: int, cohort_size: int) -> Tensor:
    loop = FederatedLoop(cohort_size, EPOCHS, seed=0, algorithm=FedDyn())
    return weights(fit(quadratic_module(mu=ALPHA, lr=RATE), loop, quadratics(POINTS), rounds=rounds).net)


@pytest.mark.parametrize("cohort_size", [1, 2, 3])
def test_it_is_the_published_algorithm(cohort_size: int):
    torch.testing.assert_close(feddyn(5, cohort_size), by_hand(5, cohort_size), rtol=1e-5, atol=1e-6)


def test_its_fixed_point_is_the_optimum_of_all_clients():
    torch.testing.assert_close(feddyn(150, 3), torch.tensor(POINTS).double().mean(0), rtol=1e-3, atol=1e-3)


def test_no_alpha_is_refused():
    with pytest.raises(
        InputError, match=r"alpha is model\.mu, which must be one constant number > 0, got 0.0 of ConstantMu; set it"
    ):
        fit(quadratic_module(mu=0.0), FederatedLoop(2, 1, seed=0, algorithm=FedDyn()), quadratics(POINTS))


def test_an_alpha_that_is_not_one_number_is_refused():
    module = FederatedModule(net(), mu=MuByName({"bias": 1.0}))
    with pytest.raises(InputError, match=r"got 0.01 of MuByName"):
        fit(module, FederatedLoop(2, 1, seed=0, algorithm=FedDyn()))
