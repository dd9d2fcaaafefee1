"""Metrics that a callback logs in any hook of a round have the same step as the round's own metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from federations import fit, net
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import Logger

from fedlit.engines import LoopEngine
from fedlit.federated import FederatedLoop, FederatedModule


class Kept(Logger):
    """Keeps all that it is given, by step."""

    name, version = "kept", 0  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.steps: dict[int | None, dict[str, float]] = {}

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.steps.setdefault(step, {}).update(metrics)

    def log_hyperparams(self, params: Any, *arguments: Any, **named: Any) -> None: ...


class Logs(Callback):
    """Logs the number of the round in a hook."""

    def __init__(self, hook: str, how: dict[str, bool]) -> None:
        def log(trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
            pl_module.log("mine", trainer.current_epoch + 1.0, **how)  # type: ignore[arg-type]

        setattr(self, hook, log)


def run(rounds: int, root: Path, callbacks: list[Callback], resumed: Path | None = None) -> Kept:
    last = ModelCheckpoint(root, "last", enable_version_counter=False)
    kept, loop = Kept(), FederatedLoop(4, seed=0, engine=LoopEngine())
    given = {"root": root, "callbacks": [*callbacks, last], "logger": kept, "ckpt_path": resumed}
    fit(FederatedModule(net()), loop, rounds=rounds, **given)
    return kept


IN_A_BATCH = [("on_train_batch_start", {}), ("on_train_batch_end", {}), ("on_train_batch_end", {"on_epoch": True})]
PER_ROUND = ["on_train_epoch_start", "on_validation_epoch_end", "on_train_epoch_end"]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize(("hook", "how"), [*IN_A_BATCH, *((hook, {}) for hook in PER_ROUND)])
def test_the_step_of_a_logged_value_is_the_round(hook: str, how: dict[str, bool], tmp_path: Path) -> None:
    first = run(2, tmp_path, [Logs(hook, how)])
    second = run(4, tmp_path, [Logs(hook, how)], tmp_path / "last.ckpt")
    for kept, rounds in ((first, (1, 2)), (second, (3, 4))):
        assert tuple(kept.steps) == rounds
        for round, metrics in kept.steps.items():
            assert "round/clients" in metrics
            assert {value for name, value in metrics.items() if name.startswith("mine")} == {float(round or 0)}


def test_values_logged_by_lightnings_callbacks_have_this_step_too(tmp_path: Path) -> None:
    kept = run(2, tmp_path, [LearningRateMonitor()])
    assert {step: metrics["lr-SGD"] for step, metrics in kept.steps.items()} == {1: 1.0, 2: 1.0}
