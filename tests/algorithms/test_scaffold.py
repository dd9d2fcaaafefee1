"""SCAFFOLD against Algorithm 1 of its paper, written out."""

from __future__ import annotations

import pytest
import torch
from federations import SIZES, data, fit, net, quadratic_module, quadratics, weights
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam

from fedlit.algorithms import Scaffold
from fedlit.core.errors import InputError
from fedlit.engines import LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import FederatedLoop, FederatedModule
from fedlit.sampling import uniform_cohort

RATE = 0.1


def by_hand(rounds: int, cohort_size: int) -> Tensor:
    """The server's model after some rounds of one local epoch each, in float64 dictionaries."""
    federation = data()
    federation.setup()
    model = net()
    x = {name: p.detach().double() for name, p in model.named_parameters()}
    c = {name: torch.zeros_like(p) for name, p in x.items()}
    c_of = [dict(c) for _ in SIZES]
    for round in range(rounds):
        cohort = [int(k) for k in uniform_cohort(len(SIZES), cohort_size, seed=0, round=round)]
        moved = {name: torch.zeros_like(p) for name, p in x.items()}
        changed = {name: torch.zeros_like(p) for name, p in x.items()}
        for k in cohort:
            y, steps = dict(x), 0
            for inputs, targets in federation.client_batches(k, round, seed=0):
                leaves = {name: p.clone().requires_grad_() for name, p in y.items()}
                loss = cross_entropy(functional_call(model.double(), leaves, (inputs.double(),)), targets)
                gradients = torch.autograd.grad(loss, list(leaves.values()))
                y = {n: y[n] - RATE * (g - c_of[k][n] + c[n]) for n, g in zip(y, gradients, strict=True)}
                steps += 1
            new = {n: c_of[k][n] - c[n] + (x[n] - y[n]) / (steps * RATE) for n in x}
            for n in x:
                moved[n] += (y[n] - x[n]) / len(cohort)
                changed[n] += (new[n] - c_of[k][n]) / len(SIZES)
            c_of[k] = new
        x = {n: x[n] + moved[n] for n in x}
        c = {n: c[n] + changed[n] for n in c}
    return torch.cat([p.reshape(-1) for p in x.values()])


def scaffold(rounds: int, cohort_size: int = 4, engine: object = None, mu: float = 0.0) -> nn.Module:
    module = FederatedModule(net(), mu=mu, client_optimizer=lambda p: SGD(p, lr=RATE))
    loop = FederatedLoop(cohort_size, 1, seed=0, averaging="uniform", algorithm=Scaffold(), engine=engine)
    return fit(module, loop, rounds=rounds).net


@pytest.mark.parametrize("cohort_size", [1, 4, 6])
def test_it_is_the_published_algorithm(cohort_size: int):
    torch.testing.assert_close(weights(scaffold(4, cohort_size)), by_hand(4, cohort_size), rtol=1e-4, atol=1e-5)


def test_its_first_round_is_fedavg_to_the_bit():
    module = FederatedModule(net(), mu=0.0, client_optimizer=lambda p: SGD(p, lr=RATE))
    fedavg = fit(module, FederatedLoop(4, 1, seed=0, averaging="uniform"), rounds=1).net
    assert torch.equal(weights(scaffold(1)), weights(fedavg))


@pytest.mark.parametrize("engine", [TrainerEngine(), WorkersEngine(workers=2)])
def test_every_engine_gives_the_same_bits(engine: object):
    assert torch.equal(weights(scaffold(3, engine=engine)), weights(scaffold(3, engine=LoopEngine())))


def test_batched_programs_are_refused():
    with pytest.raises(InputError, match=r"Scaffold changes how clients train.*LoopEngine"):
        scaffold(1, engine=VectorizedEngine())


def test_it_finds_the_optimum_where_fedavg_does_not():
    # Clients of curvature 1 and 9 about different points, made by scaling inputs: the optimum solves sum grad = 0.
    # With quadratics of one curvature FedAvg is unbiased too, so client 1 takes five times the steps of client 0.
    federation = quadratics([[0.0, 0.0, 0.0], [1.0, -2.0, 3.0]], sizes=(1, 5))
    federation.batch_size = 1

    def run(algorithm: Scaffold | None) -> Tensor:
        loop = FederatedLoop(2, 1, seed=0, averaging="uniform", algorithm=algorithm)
        return weights(fit(quadratic_module(), loop, federation, rounds=200).net)

    optimum = torch.tensor([0.5, -1.0, 1.5], dtype=torch.float64)  # of the plain mean of F_1 and F_2
    torch.testing.assert_close(run(Scaffold()), optimum, rtol=1e-3, atol=1e-3)
    assert (run(None) - optimum).norm() > 0.5


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (lambda p: Adam(p), "SCAFFOLD is defined for clients that train with SGD.*not with Adam"),
        (lambda p: SGD(p, lr=0.1, momentum=0.9), "momentum 0.9.*set both to 0"),
        (lambda p: SGD(p, lr=0.1, weight_decay=0.1), "weight decay 0.1.*set both to 0"),
        (lambda p: SGD(p, lr=0.0), "divides by the clients' learning rate, got 0.0; set model.client_optimizer.lr"),
    ],
)
def test_other_optimizers_are_refused_before_training(optimizer: object, message: str):
    module = FederatedModule(net(), client_optimizer=optimizer)
    with pytest.raises(InputError, match=message):
        fit(module, FederatedLoop(4, 1, seed=0, algorithm=Scaffold()))
