"""The server's optimizers against their published rules, written out in NumPy."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from federations import data, fit, net, weights
from numpy.typing import NDArray
from torch import nn
from torch.optim import SGD, Optimizer

from fedlit.core.errors import InputError
from fedlit.federated import ClientUpdate, FederatedLoop, FederatedModule, Stragglers
from fedlit.optim import FedAdagrad, FedAdam, FedYogi

Array = NDArray[np.float64]
#: v_t of Reddi et al. 2021, Algorithm 2, from v_{t-1}, Delta_t and beta_2.
SECOND_MOMENT: dict[type[Optimizer], Callable[[Array, Array, float], Array]] = {
    FedAdagrad: lambda v, delta, beta2: v + delta**2,
    FedYogi: lambda v, delta, beta2: v - (1 - beta2) * delta**2 * np.sign(v - delta**2),
    FedAdam: lambda v, delta, beta2: beta2 * v + (1 - beta2) * delta**2,
}
SHAPE = (7, 3)


def algorithm_2(
    kind: type[Optimizer], x: Array, deltas: list[Array], eta: float, beta1: float, beta2: float, tau: float
) -> Array:
    """The server's part of Reddi et al. 2021, Algorithm 2, with m_{-1} = 0 and v_{-1} = tau^2."""
    m, v = np.zeros_like(x), np.full_like(x, tau**2)
    for delta in deltas:
        m = beta1 * m + (1 - beta1) * delta
        v = SECOND_MOMENT[kind](v, delta, beta2)
        x = x + eta * m / (np.sqrt(v) + tau)
    return x


def deltas(rounds: int = 8) -> list[Array]:
    """Average updates of clients, from large to tiny, with some scalars that do not move."""
    rng = np.random.default_rng(1)
    made = [rng.normal(size=SHAPE) * scale for scale in np.geomspace(3, 1e-4, rounds)]
    for delta in made:
        delta[0] = 0
    return made


def start() -> Array:
    return np.random.default_rng(2).normal(size=SHAPE)


def step(optimizer: Optimizer, parameter: nn.Parameter, updates: list[Array]) -> None:
    """Rounds of a server whose clients moved by these updates: the pseudo-gradient is the update's negative."""
    for update in updates:
        parameter.grad = torch.from_numpy(-update).to(parameter)
        optimizer.step()
        optimizer.zero_grad()


ADAPTIVE = [FedAdagrad, FedAdam, FedYogi]


@pytest.mark.parametrize("kind", ADAPTIVE)
@pytest.mark.parametrize(
    ("eta", "beta1", "beta2", "tau"), [(0.1, 0.9, 0.99, 1e-3), (1.0, 0.0, 0.5, 0.1), (3, 0.5, 0, 1)]
)
def test_the_update_is_the_published_one(kind: type[Optimizer], eta: float, beta1: float, beta2: float, tau: float):
    parameter = nn.Parameter(torch.from_numpy(start()))  # float64
    settings = {"lr": eta, "beta1": beta1, "tau": tau} | ({} if kind is FedAdagrad else {"beta2": beta2})
    step(kind([parameter], **settings), parameter, deltas())
    expected = algorithm_2(kind, start(), deltas(), eta, beta1, beta2, tau)
    np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-12, atol=1e-13)
    assert np.array_equal(parameter[0].detach().numpy(), start()[0])  # whom nothing moves stays


@pytest.mark.parametrize(("kind", "beta1"), [(FedAdagrad, 0.0), (FedAdam, 0.9), (FedYogi, 0.9)])
def test_the_defaults_are_the_papers(kind: type[Optimizer], beta1: float):
    # Section 5: beta_1 = 0 for FedAdagrad, else 0.9; beta_2 = 0.99; tau = 1e-3.
    parameter = nn.Parameter(torch.from_numpy(start()))
    step(kind([parameter]), parameter, deltas())
    expected = algorithm_2(kind, start(), deltas(), eta=0.1, beta1=beta1, beta2=0.99, tau=1e-3)
    np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", ADAPTIVE)
def test_the_first_step_of_one_scalar_by_hand(kind: type[Optimizer]):
    # x = 1, Delta = 3, tau = 4, so v_{-1} = 16, sqrt(v) is a whole number for beta_2 = 0 in each rule:
    # Adagrad 16 + 9 = 25; Adam 9; Yogi 16 - 9 sign(16 - 9) = 7, not a square. With beta_1 = 1/2, m = 1.5 and eta = 2.
    second = {FedAdagrad: 25.0, FedAdam: 9.0, FedYogi: 7.0}[kind]
    parameter = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    more = {} if kind is FedAdagrad else {"beta2": 0.0}
    step(kind([parameter], lr=2.0, beta1=0.5, tau=4.0, **more), parameter, [np.array([3.0])])
    assert parameter.item() == pytest.approx(1 + 2 * 1.5 / (second**0.5 + 4), rel=1e-14)


def test_yogis_second_moment_neither_overshoots_nor_moves_where_it_equals_the_square():
    # v_{-1} = tau^2 = Delta^2: sign(0) = 0, so v stays; Adam's would too, and Adagrad's would double.
    parameter = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    step(FedYogi([parameter], lr=1.0, beta1=0.0, beta2=0.9, tau=0.5), parameter, [np.array([0.5])])
    assert parameter.item() == pytest.approx(0.5 / (0.5 + 0.5))


@pytest.mark.parametrize("kind", [FedAdagrad, FedYogi])
def test_a_large_tau_is_plain_sgd_of_rate_lr_over_two_tau(kind: type[Optimizer]):
    # Delta^2 is nothing beside v = tau^2, so eta m/(sqrt(v) + tau) is eta/(2 tau) Delta.
    parameter = nn.Parameter(torch.from_numpy(start()))
    step(kind([parameter], lr=2e6, beta1=0.0, tau=1e6), parameter, deltas())
    np.testing.assert_allclose(parameter.detach().numpy(), start() + sum(deltas()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("beta", "eta"), [(0.9, 1.0), (0.0, 1.0), (0.5, 0.3)])
def test_sgd_with_momentum_is_fedavgm(beta: float, eta: float):
    # Hsu, Qi and Brown 2019, FedAvgM: v <- beta v + Delta w, w <- w - v, with Delta w = sum n_k/n (w_t - w_k).
    # A server rate eta, which they leave at 1, scales v in the second.
    parameter = nn.Parameter(torch.from_numpy(start()))
    step(SGD([parameter], lr=eta, momentum=beta), parameter, deltas())
    w, v = start(), np.zeros(SHAPE)
    for delta in deltas():
        v = beta * v - delta
        w = w - eta * v
    np.testing.assert_allclose(parameter.detach().numpy(), w, rtol=1e-12)


@pytest.mark.parametrize("kind", ADAPTIVE)
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lr": 0.0}, "lr must be a finite number > 0, got 0.0; the paper tunes it by powers of 10"),
        ({"lr": -1.0}, "lr must be a finite number > 0, got -1.0"),
        ({"lr": float("nan")}, "lr must be a finite number > 0, got nan"),
        ({"lr": float("inf")}, "lr must be a finite number > 0, got inf"),
        ({"tau": 0.0}, "tau must be a finite number > 0, got 0.0"),
        ({"tau": float("nan")}, "tau must be a finite number > 0, got nan"),
        ({"beta1": 1.0}, r"beta1 must be in \[0, 1\), got 1.0; the paper has 0.9 and 0.99"),
        ({"beta1": -0.1}, r"beta1 must be in \[0, 1\), got -0.1"),
        ({"beta1": float("nan")}, r"beta1 must be in \[0, 1\), got nan"),
    ],
)
def test_impossible_values_are_refused_by_value(kind: type[Optimizer], settings: dict[str, float], says: str):
    with pytest.raises(InputError, match=says):
        kind([nn.Parameter(torch.zeros(2))], **settings)


@pytest.mark.parametrize("kind", [FedAdam, FedYogi])
@pytest.mark.parametrize("beta2", [1.0, -0.5, float("nan")])
def test_an_invalid_beta2_is_refused(kind: type[Optimizer], beta2: float):
    with pytest.raises(InputError, match=rf"beta2 must be in \[0, 1\), got {beta2}"):
        kind([nn.Parameter(torch.zeros(2))], beta2=beta2)


def test_a_federation_says_which_of_its_optimizers_is_wrong():
    with pytest.raises(InputError, match=r"model\.server_optimizer: tau must be a finite number > 0, got 0"):
        FederatedModule(net(), server_optimizer=lambda p: FedAdam(p, tau=0))


@pytest.mark.parametrize("kind", ADAPTIVE)
@pytest.mark.parametrize("stop", [0, 1, 5])
def test_an_optimizer_goes_on_from_its_state_to_the_bit(kind: type[Optimizer], stop: int):
    straight = nn.Parameter(torch.from_numpy(start()).float())
    optimizer = kind([straight], lr=0.3)
    step(optimizer, straight, deltas()[:stop])
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "w": straight.detach()}, file)
    step(optimizer, straight, deltas()[stop:])
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = nn.Parameter(saved["w"].clone())
    optimizer = kind([resumed], lr=7.0)  # the rate, too, is that of the state
    optimizer.load_state_dict(saved["optimizer"])
    step(optimizer, resumed, deltas()[stop:])
    assert torch.equal(resumed, straight)


@pytest.mark.parametrize("kind", ADAPTIVE)
def test_a_step_without_gradients_changes_nothing(kind: type[Optimizer]):
    moved, still = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = kind([moved, still])
    step(optimizer, moved, [np.ones(3)])
    before = moved.detach().clone()
    optimizer.step()  # zero_grad has taken the gradient away
    assert torch.equal(moved, before)
    assert torch.equal(still, torch.ones(3))
    assert still not in optimizer.state


def test_a_closure_is_called_with_gradients_and_its_loss_given_back():
    parameter = nn.Parameter(torch.tensor([2.0]))
    optimizer = FedAdagrad([parameter], lr=1.0, tau=1.0)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss

    # Delta = -4, v = 1 + 16, w = 2 - 4/(sqrt(17) + 1).
    assert optimizer.step(closure) == 4
    assert parameter.item() == pytest.approx(2 - 4 / (17**0.5 + 1))


def test_groups_have_settings_of_their_own():
    a, b = nn.Parameter(torch.zeros(1, dtype=torch.float64)), nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = FedAdam([{"params": [a]}, {"params": [b], "lr": 0.5, "tau": 0.1}], lr=0.2, tau=1.0)
    for parameter in (a, b):
        parameter.grad = torch.full((1,), -2.0, dtype=torch.float64)
    optimizer.step()
    for parameter, eta, tau in ((a, 0.2, 1.0), (b, 0.5, 0.1)):
        by_hand = algorithm_2(FedAdam, np.zeros(1), [np.array([2.0])], eta, 0.9, 0.99, tau)
        assert parameter.item() == pytest.approx(by_hand.item(), rel=1e-12)


def one_update(updates: list[ClientUpdate], w: torch.Tensor) -> Array:
    """Delta_t = sum_k n_k/n (w_k - w_t)."""
    sizes = np.array([update.task.num_examples for update in updates])
    models = np.stack([update.weights.floats.double().numpy() for update in updates])
    return (sizes[:, None] * models).sum(0) / sizes.sum() - w.numpy()


@pytest.mark.parametrize("kind", [*ADAPTIVE, None])
def test_two_rounds_of_a_federation_by_hand(kind: type[Optimizer] | None):
    sent: list[ClientUpdate] = []
    loop = FederatedLoop(4, 2, seed=0)
    loop.on_update.append(sent.append)
    model = net()
    reached = [weights(model)]

    class Recorder(FederatedModule):
        def server_step(self, target):
            super().server_step(target)
            reached.append(weights(self.net))

    make = (lambda p: SGD(p, lr=1.0, momentum=0.9)) if kind is None else (lambda p: kind(p, lr=0.05, tau=0.01))
    fit(Recorder(copy.deepcopy(model), server_optimizer=make), loop, rounds=2)
    rounds = [[update for update in sent if update.task.round == round] for round in range(2)]
    seen = [one_update(updates, w) for updates, w in zip(rounds, reached[:2], strict=True)]
    w = reached[0].numpy()
    if kind is None:
        expected = w + seen[0] + (0.9 * seen[0] + seen[1])  # FedAvgM from rest
    else:
        expected = algorithm_2(kind, w, seen, 0.05, 0.0 if kind is FedAdagrad else 0.9, 0.99, 0.01)
    np.testing.assert_allclose(reached[2].numpy(), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(reached[2].numpy() - w).max() > 1e-2


def test_batch_norm_statistics_are_averaged_whatever_the_servers_optimizer():
    def run(make: Callable[..., Optimizer]) -> nn.Module:
        return fit(FederatedModule(net(norm=True), server_optimizer=make), datamodule=data((8, 4, 16, 8)), rounds=1).net

    adaptive, plain = run(lambda p: FedYogi(p, lr=0.01)), run(lambda p: SGD(p, lr=1.0))
    assert torch.equal(adaptive[1].running_mean, plain[1].running_mean)
    assert torch.equal(adaptive[1].running_var, plain[1].running_var)
    assert not torch.equal(adaptive[1].weight, plain[1].weight)


def test_a_round_of_dropped_clients_leaves_model_and_moments_alone():
    class First(Stragglers):
        """Works in the first round only."""

        def work(self, clients, epochs, seed, round):
            return np.full(len(clients), epochs if round == 0 else 0.0)

    def run(rounds: int) -> FederatedModule:
        module = FederatedModule(net(), server_optimizer=lambda p: FedAdam(p, lr=0.1))
        return fit(module, FederatedLoop(4, seed=0, stragglers=First()), rounds=rounds)

    once = run(1)
    with pytest.warns(UserWarning, match="every client of round 2 was dropped"):
        twice = run(2)
    assert torch.equal(weights(twice.net), weights(once.net))
    for mine, theirs in zip(
        twice.optimizers().optimizer.state.values(), once.optimizers().optimizer.state.values(), strict=True
    ):
        assert torch.equal(mine["momentum"], theirs["momentum"])
        assert torch.equal(mine["second_moment"], theirs["second_moment"])


@pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path.")  # the resumed run writes no checkpoints
@pytest.mark.parametrize("kind", ADAPTIVE)
def test_a_federation_resumes_with_its_moments(tmp_path: Path, kind: type[Optimizer]):
    def make() -> FederatedModule:
        return FederatedModule(net(), server_optimizer=lambda p: kind(p, lr=0.1))

    straight = fit(make(), rounds=3)
    fit(make(), rounds=1, root=tmp_path)
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    assert torch.equal(weights(fit(make(), rounds=3, ckpt_path=checkpoint).net), weights(straight.net))
