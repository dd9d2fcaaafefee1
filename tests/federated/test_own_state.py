"""A user's own state in a checkpoint is resumed, or refused when it is saved, and fedlit's state is not lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import data, fit, net, weights
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.optim import SGD

from fedlit.command.trainer import Trainer as FedlitTrainer
from fedlit.core.checkpoint import read
from fedlit.core.errors import InputError
from fedlit.engines import LoopEngine
from fedlit.federated import AdaptiveMu, FederatedLoop, FederatedModule

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")


class Saves(FederatedModule):
    """Hooks of its own, which do not call fedlit's, as those of a LightningModule need not."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["mine"] = 3


class Loads(FederatedModule):
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.found = checkpoint.get("mine")


class Both(Saves, Loads):
    pass


def run(kind: type[FederatedModule], rounds: int, root: Path, resumed: Path | None = None, seed: int = 0) -> Any:
    module = kind(net(), AdaptiveMu(0.1), lambda p: SGD(p, lr=0.1), lambda p: SGD(p, lr=1.0, momentum=0.5))
    return fit(module, FederatedLoop(4, seed=seed, engine=LoopEngine()), rounds=rounds, root=root, ckpt_path=resumed)


@pytest.mark.parametrize("kind", [FederatedModule, Saves, Loads, Both])
def test_a_users_own_hooks_do_not_break_a_resume(kind: type[FederatedModule], tmp_path: Path) -> None:
    straight = run(FederatedModule, 5, tmp_path / "straight")
    run(kind, 3, tmp_path)
    (path,) = tmp_path.rglob("*step=3.ckpt")
    resumed = run(kind, 5, tmp_path, path)
    assert torch.equal(weights(resumed), weights(straight))
    assert resumed.mu.value == straight.mu.value
    with pytest.raises(InputError, match="of another federation: federation seed is 0 there, but 1 here"):
        run(kind, 5, tmp_path, path, seed=1)


@pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path., callbacks")
@pytest.mark.parametrize(("verb", "offers_a_new_run"), [("fit", True), ("test", False)])
def test_only_a_fit_can_start_anew(verb: str, offers_a_new_run: bool, tmp_path: Path) -> None:
    run(FederatedModule, 1, tmp_path)
    (path,) = tmp_path.rglob("*step=1.ckpt")
    module = FederatedModule(net(), AdaptiveMu(0.1), lambda p: SGD(p, lr=0.1))
    trainer = Trainer(
        accelerator="cpu", max_epochs=2, callbacks=[FederatedLoop(4, seed=1)], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(InputError, match="of another federation") as refusal:
        getattr(trainer, verb)(module, datamodule=data(), ckpt_path=path, weights_only=True)
    assert ("start anew" in str(refusal.value)) == offers_a_new_run


class History(Callback):
    """Keeps a given value in its state."""

    def __init__(self, kept: Any) -> None:
        self.kept = kept

    def state_dict(self) -> dict[str, Any]:
        return {"history": [self.kept]}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began = True


class Adds(Callback):
    """Adds to the checkpoint itself, from the second round on."""

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["mine"] = {"at": np.float64(1) if trainer.global_step > 1 else 1.0}


def trained(trainer: type[Trainer], callback: Callback, root: Path, rounds: int = 2, **fitted: Any) -> FederatedModule:
    last = ModelCheckpoint(root, "last", enable_version_counter=False)
    loop = FederatedLoop(4, seed=0, engine=LoopEngine())
    made = trainer(
        max_epochs=rounds, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[loop, callback, last],
    )  # fmt: skip
    module = FederatedModule(net())
    made.fit(module, datamodule=data(), **fitted)
    return module


@pytest.mark.parametrize(
    ("callback", "named", "rounds"),
    [
        (History(np.ones(3)), "callbacks / History / history[0] is a numpy.ndarray", None),
        (History(Path("a")), f"callbacks / History / history[0] is a {Path.__module__}.PosixPath", None),
        (History(lambda: 1), "callbacks / History / history[0] is a function", None),
        (Adds(), "mine / at is a numpy.float64", 1),
    ],
    ids=["array", "Path", "lambda", "later"],
)  # fmt: skip
def test_state_that_cannot_be_loaded_is_refused_when_it_is_saved(
    callback: Callback, named: str, rounds: int | None, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refused:
        trained(FedlitTrainer, callback, tmp_path)
    assert str(refused.value).startswith(f"{named}, which a checkpoint cannot hold")
    assert not hasattr(callback, "began")  # refused before the first round, where that is known
    assert [read(path)["global_step"] for path in tmp_path.glob("*.ckpt")] == [rounds or 0][: rounds or 0]


@pytest.mark.filterwarnings("ignore:.*is deprecated")
def test_under_lightnings_trainer_there_is_a_warning_and_a_resume_with_code(tmp_path: Path) -> None:
    says = r"callbacks / History / history\[0\] is a numpy.ndarray.*weights_only=False"
    with pytest.warns(UserWarning, match=says):
        straight = trained(Trainer, History(np.ones(3)), tmp_path / "straight", 4)
    with pytest.warns(UserWarning, match=says):
        trained(Trainer, History(np.ones(3)), tmp_path)
    last = {"ckpt_path": tmp_path / "last.ckpt", "weights_only": False}
    with pytest.warns(UserWarning, match=says):
        resumed = trained(Trainer, History(np.ones(3)), tmp_path, 4, **last)
    assert torch.equal(weights(resumed), weights(straight))


@pytest.mark.parametrize(
    "kept", [torch.ones(3), 1.5, "a", [1, {"b": (2,)}], None], ids=lambda kept: type(kept).__name__
)
def test_loadable_state_causes_no_warning(kept: object, tmp_path: Path) -> None:
    for trainer in (FedlitTrainer, Trainer):
        trained(trainer, History(kept), tmp_path / trainer.__module__)


def test_state_that_exists_only_after_a_round_is_not_required_before(tmp_path: Path) -> None:
    class Late(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            self.rounds = trainer.current_epoch + 1

        def state_dict(self) -> dict[str, Any]:
            return {"rounds": self.rounds}

    trained(FedlitTrainer, Late(), tmp_path)
    assert read(tmp_path / "last.ckpt")["callbacks"][Late.__qualname__] == {"rounds": 2}
