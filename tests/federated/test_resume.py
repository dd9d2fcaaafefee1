"""Resuming in Python: new settings take effect, the learned state is kept, and impossible changes are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from federations import fit, quadratic_module, quadratics, weights
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from torch.optim import SGD, Adam

from fedlit.algorithms import FedDyn
from fedlit.core.checkpoint import read, write
from fedlit.core.errors import InputError
from fedlit.federated import FederatedLoop, FederatedModule

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")

POINTS = [[0.0, 0.0, 0.0], [1.0, -2.0, 3.0], [4.0, 0.0, -1.0]]
RATE = 0.1

Optimizer = Callable[[Any], torch.optim.Optimizer]


def run(server: Optimizer, rounds: int, root: Path, ckpt: Path | None = None, **more: Any) -> FederatedModule:
    module = quadratic_module(lr=RATE, server_optimizer=server)
    loop = FederatedLoop(3, 1, seed=0)
    return fit(module, loop, quadratics(POINTS), rounds, root, ckpt, enable_checkpointing=True, **more)


@pytest.fixture
def two_rounds(tmp_path: Path) -> Callable[[Optimizer], Path]:
    """The checkpoint of two rounds with a server's optimizer."""

    def make(server: Optimizer) -> Path:
        run(server, 2, tmp_path)
        (path,) = tmp_path.rglob("*.ckpt")
        return path

    return make


def without_record(path: Path) -> None:
    """Make it a checkpoint of a fedlit that did not write down the optimizer's settings."""
    checkpoint = read(path)
    del checkpoint["fedlit"]["server optimizer"]
    write(checkpoint, path)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_changed_rate_takes_effect_and_the_momentum_is_kept(
    recorded: bool, two_rounds: Callable[[Optimizer], Path], tmp_path: Path
) -> None:
    path = two_rounds(lambda p: SGD(p, lr=1.0, momentum=0.5))
    if not recorded:
        without_record(path)
    before = read(path)
    w, (buffer,) = before["state_dict"]["net.w"], [s["momentum_buffer"] for s in _state(before).values()]
    after = run(lambda p: SGD(p, lr=0.25, momentum=0.5), 3, tmp_path, path)
    # Each client takes one full step on 1/2 |w - a_k|^2, so the pseudo-gradient is RATE (w - mean of the a_k).
    gradient = RATE * (w - torch.tensor(POINTS).mean(0))
    expected = w - 0.25 * (0.5 * buffer + gradient)
    torch.testing.assert_close(weights(after.net).float(), expected)


def test_an_unchanged_optimizer_resumes_to_the_bit(two_rounds: Callable[[Optimizer], Path], tmp_path: Path) -> None:
    def adam(p: Any) -> Adam:
        return Adam(p, lr=0.1)

    resumed = run(adam, 4, tmp_path, two_rounds(adam))
    assert torch.equal(weights(resumed.net), weights(run(adam, 4, tmp_path / "whole").net))


@pytest.mark.parametrize("recorded", [True, False])
def test_a_server_optimizer_of_another_class_is_refused(
    recorded: bool, two_rounds: Callable[[Optimizer], Path], tmp_path: Path
) -> None:
    path = two_rounds(lambda p: SGD(p, lr=1.0))
    if not recorded:
        without_record(path)
    with pytest.raises(InputError, match=r"server optimizer is .*, whose state Adam cannot use; use the model"):
        run(lambda p: Adam(p, lr=1.0), 3, tmp_path, path)


def test_a_setting_that_needs_another_state_is_refused(two_rounds: Callable[[Optimizer], Path], tmp_path: Path) -> None:
    path = two_rounds(lambda p: Adam(p, lr=0.1))
    with pytest.raises(
        InputError, match=r"amsgrad: False -> True: Adam cannot resume from its state .*max_exp_avg_sq.*; use"
    ):
        run(lambda p: Adam(p, lr=0.1, amsgrad=True), 3, tmp_path, path)
    run(lambda p: Adam(p, lr=0.1, betas=(0.8, 0.9)), 3, tmp_path, path)


def test_a_callbacks_changed_argument_is_not_undone_by_the_checkpoint(
    two_rounds: Callable[[Optimizer], Path], tmp_path: Path
) -> None:
    """``EarlyStopping.load_state_dict`` takes the patience of the checkpoint; its count continues."""

    def sgd(p: Any) -> SGD:
        return SGD(p, lr=1.0)

    def stopping(patience: int) -> EarlyStopping:
        return EarlyStopping("global/loss", patience=patience, min_delta=100.0)  # nothing is an improvement

    run(sgd, 3, tmp_path, callbacks=[stopping(10)])  # two rounds without improvement
    (path,) = tmp_path.rglob("*.ckpt")
    given = stopping(3)
    module = run(sgd, 10, tmp_path, path, callbacks=[given])
    assert given.patience == 3
    assert module.trainer.global_step == 4  # the third without improvement


NO_GAIN = {"patience": 2, "min_delta": 100.0}  # nothing is an improvement
STOPS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "patience": (NO_GAIN, NO_GAIN, 3),
    "a threshold": ({"stopping_threshold": 1e9}, {"stopping_threshold": 1e9}, 1),
    "more patience": (NO_GAIN, NO_GAIN | {"patience": 3}, 4),
    "another threshold": ({"stopping_threshold": 1e9}, {"stopping_threshold": -1.0}, 6),
}


@pytest.mark.parametrize("case", STOPS)
def test_a_run_that_was_stopped_early_stays_so_unless_its_rule_changes(case: str, tmp_path: Path) -> None:
    """A run that is killed after its last checkpoint ends like one that is not."""

    def sgd(p: Any) -> SGD:
        return SGD(p, lr=1.0)

    then, now, rounds = STOPS[case]
    run(sgd, 6, tmp_path, callbacks=[EarlyStopping("global/loss", **then)])
    (path,) = tmp_path.rglob("*.ckpt")
    module = run(sgd, 6, tmp_path, path, callbacks=[EarlyStopping("global/loss", **now)])
    assert module.trainer.global_step == rounds


def test_another_alpha_of_feddyn_is_refused(tmp_path: Path) -> None:
    def feddyn(alpha: float, rounds: int, ckpt: Path | None = None) -> None:
        loop = FederatedLoop(3, 1, seed=0, algorithm=FedDyn())
        fit(quadratic_module(mu=alpha), loop, quadratics(POINTS), rounds, tmp_path, ckpt)

    feddyn(0.5, 1)
    (path,) = tmp_path.rglob("*.ckpt")
    with pytest.raises(
        InputError, match=r"one alpha, model\.mu, which was 0\.5 and now is 0\.25; use the run's config"
    ):
        feddyn(0.25, 2, path)


def _state(checkpoint: dict[str, Any]) -> dict[int, dict[str, torch.Tensor]]:
    (state,) = checkpoint["optimizer_states"]
    return dict(state["state"])


class Momentum(torch.optim.Optimizer):
    """Momentum that is kept in the optimizer's state."""

    def __init__(self, params: Any, lr: float = 0.5) -> None:
        super().__init__(params, {"lr": lr})

    def velocity(self, parameter: torch.Tensor) -> Any:
        return self.state[parameter].setdefault("velocity", torch.zeros_like(parameter))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter -= group["lr"] * self.velocity(parameter).mul_(0.9).add_(parameter.grad)


class InAnAttribute(Momentum):
    def __init__(self, params: Any, lr: float = 0.5) -> None:
        super().__init__(params, lr)
        self.kept: dict[Any, Any] = {}

    def velocity(self, parameter: torch.Tensor) -> Any:
        return self.kept.setdefault(parameter, torch.zeros_like(parameter))


class Counting(Momentum):
    """Starts the momentum anew in every third step, by a count of its own."""

    steps = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.steps += 1
        if self.steps % 3 == 0:
            self.state.clear()
        super().step()


class Noisy(Momentum):
    """Adds a draw from PyTorch's global generator to each step."""

    def velocity(self, parameter: torch.Tensor) -> Any:
        return super().velocity(parameter).add_(0.1 * torch.randn_like(parameter))


@pytest.mark.parametrize(
    ("server", "is_refused"), [(Momentum, False), (InAnAttribute, True), (Counting, True), (Noisy, False)]
)
def test_a_users_server_optimizer_keeps_all_its_state_or_is_refused(
    server: Optimizer, is_refused: bool, tmp_path: Path
) -> None:
    if is_refused:
        with pytest.raises(InputError, match=r"model.server_optimizer \w+ takes another step in a resumed run"):
            run(server, 4, tmp_path)
        return
    straight = weights(run(server, 4, tmp_path / "straight").net)
    run(server, 2, tmp_path)
    (path,) = (tmp_path / "checkpoints").glob("*.ckpt")
    assert torch.equal(weights(run(server, 4, tmp_path, path).net), straight)
    loop = FederatedLoop(3, 1, seed=0)
    unchecked = fit(quadratic_module(lr=RATE, server_optimizer=server), loop, quadratics(POINTS), 4)
    assert torch.equal(weights(unchecked.net), straight)  # to look changes nothing


class Waning(Callback):
    """Halves its argument in each round, and keeps it in checkpoints."""

    def __init__(self, rate: float = 1.0) -> None:
        self.rate = rate

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.rate /= 2

    def state_dict(self) -> dict[str, Any]:
        return {"rate": self.rate}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rate = state_dict["rate"]


@pytest.mark.parametrize(("now", "expected"), [(1.0, 1 / 8), (3.0, 3.0 / 2)])
def test_a_callbacks_argument_that_became_state_is_resumed_unless_it_is_another_one_now(
    now: float, expected: float, tmp_path: Path
) -> None:
    fit(rounds=2, root=tmp_path, callbacks=[Waning()])
    (path,) = tmp_path.rglob("*.ckpt")
    resumed = Waning(now)
    fit(rounds=3, root=tmp_path, callbacks=[resumed], ckpt_path=path)
    assert resumed.rate == expected
