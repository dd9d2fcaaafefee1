"""Attributes of the server that a callback sets during training take effect, also after a resume, or are refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from federations import fit, net, weights
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.optim import SGD, Adam

from fedlit.algorithms import Scaffold
from fedlit.core.errors import InputError
from fedlit.data.module import data_of
from fedlit.engines import LoopEngine, TrainerEngine
from fedlit.federated import ClientModule, ConstantMu, FederatedLoop, FederatedModule
from fedlit.schedules import Exponential

HOOKS = ("setup", "on_fit_start", "on_train_start", "on_train_epoch_start", "on_train_epoch_end")


class Does(Callback):
    """Changes a module in a hook; in those of a round, in the second."""

    def __init__(self, hook: str, change: Callable[[Any], None]) -> None:
        def called(trainer: Trainer, pl_module: LightningModule, *_: object, **named: object) -> None:
            if "epoch" not in hook or trainer.current_epoch == 1:
                change(pl_module)

        setattr(self, hook, called)


def run(rounds: int, *callbacks: Callback, resumed: Path | None = None) -> FederatedModule:
    module = FederatedModule(net(), 0.1, lambda p: SGD(p, lr=0.1), client_clip_norm=10.0)
    loop = FederatedLoop(4, seed=0, engine=LoopEngine())
    saves = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    return fit(
        module, loop, rounds=rounds, callbacks=list(callbacks), ckpt_path=resumed, enable_checkpointing=saves
    )  # fmt: skip


def freeze(module: Any) -> None:
    module.net[0].weight.requires_grad_(False)


def swap_optimizer(module: Any) -> None:
    module.trainer.optimizers = [Adam(module.net.parameters(), lr=0.01)]


def setting(**changed: Callable[[], Any]) -> Callable[[Any], None]:
    def change(module: Any) -> None:
        for name, make in changed.items():
            setattr(module, name, make())

    return change


def drop_less(module: Any) -> None:
    module.net[2].p = 0.25


def smooth(module: Any) -> None:
    module.loss.label_smoothing = 0.1


class Sparing(ClientModule):
    """A user's own class of clients."""


REFUSED: list[tuple[str, Callable[[Any], None], str]] = [
    *((hook, freeze, r"the net's 0.weight was frozen .*; set its requires_grad before") for hook in HOOKS),
    *((hook, drop_less, r"2.p was changed from 0.0 to 0.25 .*; keep it in a buffer") for hook in HOOKS[2:]),
    ("on_train_epoch_start", smooth, r"loss's label_smoothing was changed from 0.0 to 0.1 .*; give model.loss"),
    *((hook, swap_optimizer, "optimizer is Adam, but model.server_optimizer is SGD") for hook in HOOKS[2:]),
    ("on_train_epoch_start", setting(net=net), "net was replaced .* would not see the new one; change its weights"),
    ("on_train_epoch_start", setting(loss=nn.CrossEntropyLoss), "loss was replaced"),
    ("on_train_epoch_start", setting(client_optimizer=lambda: lambda p: SGD(p, lr=0.5)), "model.client_schedule"),
    ("on_train_epoch_start", setting(server_optimizer=lambda: lambda p: SGD(p, lr=0.5)), "model.server_schedule"),
    ("on_train_epoch_start", setting(client_clip_norm=lambda: 0.5), "client_clip_norm was replaced"),
    ("on_train_epoch_start", setting(client=lambda: Sparing), "client_class was replaced .* set it before the fit"),
    ("on_train_epoch_start", setting(client_schedule=lambda: Exponential(0.5)), "client_schedule was replaced"),
    ("on_train_epoch_start", setting(server_schedule=lambda: Exponential(0.5)), "server_schedule was replaced"),
    ("on_train_epoch_start", lambda module: setattr(module.loop, "algorithm", Scaffold()), "algorithm was replaced"),
    ("on_train_epoch_start", lambda module: setattr(module.loop, "engine", TrainerEngine()), "engine was replaced"),
    ("on_train_epoch_start", lambda module: setattr(data_of(module.trainer), "batch_size", 2), "batch_size was replac"),
    ("on_train_epoch_start", lambda module: setattr(data_of(module.trainer), "augment", nn.ReLU()), "augmentation was"),
]


@pytest.mark.parametrize(("hook", "change", "says"), REFUSED)
def test_an_attribute_whose_change_has_no_effect_is_refused(
    hook: str, change: Callable[[Any], None], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        run(3, Does(hook, change))


class Counts(nn.Module):
    """Notes how often it was called, and in which mode: its own code may set attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.evaluated = 0, False

    def forward(self, x: Any) -> Any:
        self.calls += 1
        self.evaluated = not self.training
        return x


class Remembers(nn.CrossEntropyLoss):
    """Keeps its last value, for a progress bar."""

    def __init__(self) -> None:
        super().__init__()
        self.last = 0.0

    def forward(self, logits: Any, targets: Any) -> Any:
        loss = super().forward(logits, targets)
        self.last = float(loss.detach())
        return loss


def test_attributes_that_net_and_loss_set_themselves_may_change() -> None:
    module = FederatedModule(nn.Sequential(Counts(), net()), 0.1, lambda p: SGD(p, lr=0.1), loss=Remembers())
    fit(module, FederatedLoop(4, seed=0, engine=LoopEngine()), rounds=3)
    assert module.net[0].calls > 3  # type: ignore[index, union-attr]
    assert module.loss.last > 0


class OwnOptimizer(FederatedModule):
    def configure_optimizers(self) -> Adam:
        return Adam(self.net.parameters(), lr=0.01)


def test_an_optimizer_that_a_resumed_run_would_lack_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"is Adam, but model.server_optimizer is SGD, .*; set model.server_optimizer instead"
    ):
        fit(OwnOptimizer(net()), rounds=1)


@pytest.mark.parametrize("mu", [5, ConstantMu(5.0)])
def test_a_mu_set_before_a_round_is_used_in_that_round(mu: Any) -> None:
    pulled = run(2, Does("on_train_epoch_start", setting(mu=lambda: mu)))
    assert pulled.round_metrics["federation/mu"] == 5
    assert not torch.equal(weights(pulled), weights(run(2)))


def test_a_mu_that_a_resumed_run_would_lack_is_refused(tmp_path: Path) -> None:
    change = Does("on_train_epoch_start", setting(mu=lambda: ConstantMu(5.0)))
    with pytest.raises(
        InputError, match=r"mu was replaced by a ConstantMu .*; change mu in the update of a class of yo"
    ):
        run(2, change, ModelCheckpoint(tmp_path))


@torch.no_grad()
def halve(module: Any) -> None:
    for parameter in module.net.parameters():
        parameter.mul_(0.5)


def slow_down(module: Any) -> None:
    module.trainer.optimizers[0].param_groups[0]["lr"] = 0.25


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("hook", ["on_train_epoch_start", "on_train_epoch_end"])
@pytest.mark.parametrize("change", [halve, slow_down])
def test_changes_that_take_effect_do_so_in_a_resumed_run(
    hook: str, change: Callable[[Any], None], tmp_path: Path
) -> None:
    def changed(rounds: int, resumed: Path | None = None) -> FederatedModule:
        last = ModelCheckpoint(tmp_path, "last", enable_version_counter=False)
        return run(rounds, Does(hook, change), last, resumed=resumed)

    straight = copy.deepcopy(weights(changed(4)))
    assert not torch.equal(straight, weights(run(4)))
    changed(2)
    resumed = changed(4, tmp_path / "last.ckpt")
    assert torch.equal(weights(resumed), straight)
    assert resumed.round_metrics["federation/server_lr"] == (0.25 if change is slow_down else 1.0)
