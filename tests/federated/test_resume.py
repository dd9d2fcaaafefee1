"""Resumed in Python: what is set wins, what was learned is kept, and what does not fit is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from federations import fit, quadratic_module, quadratics, weights
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
def test_another_class_is_refused(recorded: bool, two_rounds: Callable[[Optimizer], Path], tmp_path: Path) -> None:
    path = two_rounds(lambda p: SGD(p, lr=1.0))
    if not recorded:
        without_record(path)
    with pytest.raises(InputError, match=r"server optimizer is .*, whose state means nothing to Adam; use the model"):
        run(lambda p: Adam(p, lr=1.0), 3, tmp_path, path)


def test_a_setting_that_needs_another_state_is_refused(two_rounds: Callable[[Optimizer], Path], tmp_path: Path) -> None:
    path = two_rounds(lambda p: Adam(p, lr=0.1))
    with pytest.raises(
        InputError, match=r"amsgrad: False -> True: Adam cannot go on from its state .*max_exp_avg_sq.*; use"
    ):
        run(lambda p: Adam(p, lr=0.1, amsgrad=True), 3, tmp_path, path)
    run(lambda p: Adam(p, lr=0.1, betas=(0.8, 0.9)), 3, tmp_path, path)


def test_a_callbacks_changed_argument_is_not_undone_by_the_checkpoint(
    two_rounds: Callable[[Optimizer], Path], tmp_path: Path
) -> None:
    """``EarlyStopping.load_state_dict`` takes the patience of the checkpoint; its count goes on."""

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


def test_another_alpha_of_feddyn_is_refused(tmp_path: Path) -> None:
    def feddyn(alpha: float, rounds: int, ckpt: Path | None = None) -> None:
        loop = FederatedLoop(3, 1, seed=0, algorithm=FedDyn())
        fit(quadratic_module(mu=alpha), loop, quadratics(POINTS), rounds, tmp_path, ckpt)

    feddyn(0.5, 1)
    (path,) = tmp_path.rglob("*.ckpt")
    with pytest.raises(InputError, match=r"one alpha, model\.mu, which was 0\.5 and is 0\.25; use the run's config"):
        feddyn(0.25, 2, path)


def _state(checkpoint: dict[str, Any]) -> dict[int, dict[str, torch.Tensor]]:
    (state,) = checkpoint["optimizer_states"]
    return dict(state["state"])
