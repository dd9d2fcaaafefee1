import math

import pytest
import torch
from federations import data
from torch import nn
from torch.optim import SGD

from fedlit.clients.client import ClientModule
from fedlit.core.layout import Layout, read_state
from fedlit.core.proximal import add_proximal_gradient, proximal_term, squared_moves
from fedlit.core.records import Broadcast, ClientTask


def test_the_term_is_half_mu_times_the_squared_distance():
    w = [torch.tensor([1.0, 2.0]), torch.tensor([[3.0]])]
    anchor = [torch.tensor([0.0, 0.0]), torch.tensor([[1.0]])]
    squares = squared_moves(w, anchor)
    assert squares == pytest.approx([1 + 4, 4])
    assert proximal_term(squares, [0.5, 0.5]) == pytest.approx(0.25 * (1 + 4 + 4))
    assert proximal_term(squares, [0.5, 0.0]) == pytest.approx(0.25 * (1 + 4))


def test_the_gradient_is_that_of_the_term():
    w = [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(4))]
    anchor = [torch.randn(3, 2), torch.randn(4)]
    term = 0.7 / 2 * sum(((p - a) ** 2).sum() for p, a in zip(w, anchor, strict=True))
    expected = torch.autograd.grad(term, w)
    for p in w:
        p.grad = torch.zeros_like(p)
    add_proximal_gradient(w, anchor, mu=0.7)
    for p, g in zip(w, expected, strict=True):
        torch.testing.assert_close(p.grad, g)


def test_at_the_anchor_the_gradient_is_untouched():
    w = [nn.Parameter(torch.randn(3))]
    w[0].grad = torch.tensor([1.0, 2.0, 3.0])
    add_proximal_gradient(w, [w[0].detach().clone()], mu=1.0)
    assert torch.equal(w[0].grad, torch.tensor([1.0, 2.0, 3.0]))


def test_mu_zero_touches_nothing_not_even_a_nan():
    w = [nn.Parameter(torch.ones(2))]
    w[0].grad = torch.tensor([1.0, -0.0])
    add_proximal_gradient(w, [torch.full((2,), float("nan"))], mu=0)
    assert torch.equal(w[0].grad, torch.tensor([1.0, -0.0]))
    squares = squared_moves(w, [torch.full((2,), float("nan"))])
    assert math.isnan(squares[0])
    assert proximal_term(squares, [0.0]) == 0


def test_parameters_without_a_gradient_are_left_out():
    w = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))]
    w[1].grad = torch.zeros(2)
    add_proximal_gradient(w, [torch.zeros(2), torch.zeros(2)], mu=2.0)
    assert w[0].grad is None
    assert torch.equal(w[1].grad, torch.full((2,), 2.0))


class Point(nn.Module):
    """A net that is a point w in space."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(dimensions))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.w.expand(len(inputs), -1)


@pytest.mark.parametrize("mu", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("steps", [1, 7, 200])
def test_a_quadratic_client_moves_the_fraction_that_theory_says(mu: float, steps: int):
    # F_k(w) = 1/2 |w - a|^2 from w_t = 0: T steps of rate eta move 1 - (1 - eta(1 + mu))^T of the way to a/(1 + mu).
    a, eta = torch.tensor([3.0, -1.0]), 0.1
    net = Point(2)
    client = ClientModule(net, lambda p: SGD(p, lr=eta), lambda w, y: 0.5 * (w - a).square().sum(1).mean())
    client.receive(Broadcast(read_state(net, Layout.of(net)), (mu,), torch.zeros(0)))
    task = ClientTask(client=0, round=0, seed=0, steps=steps, epochs=1, num_examples=1, weight=1)
    client.start(task)
    optimizer = client.configure_optimizers()
    for step in range(steps):
        client.training_step((torch.zeros(1, 1), torch.zeros(1, dtype=torch.long)), step).backward()
        client.on_before_optimizer_step(optimizer)
        optimizer.step()
        optimizer.zero_grad()
    ready = data()
    ready.setup()
    moved = 1 - (1 - eta * (1 + mu)) ** steps
    torch.testing.assert_close(client.finish(task, ready).weights.floats, moved * a / (1 + mu))
