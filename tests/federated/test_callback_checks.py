"""Each of Lightning's callbacks works in a federation, or is refused in one line before the first round."""

from __future__ import annotations

import csv
from pathlib import Path

import lightning.pytorch.callbacks as lightning_callbacks
import pytest
import torch
from federations import Absent, data, fit, net, weights
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint

from fedlit.cli import main
from fedlit.core.errors import InputError
from fedlit.engines import LoopEngine
from fedlit.federated import Diagnostics, FederatedLoop, FederatedModule
from fedlit.federated.callback_checks import metric_names

TINY = (
    "fit --trainer.accelerator=cpu --model.net.widths=[2] --model.net.hidden=4 --data.num_clients=8 "
    "--federation.clients_per_round=2 --federation.local_epochs=0.1 --federation.engine=fedlit.engines.LoopEngine "
    "--trainer.max_epochs=2"
).split()
FREEZES = "which parameters clients train is fixed at the start"
#: Each class with its arguments and the message with which it is refused; None if it works.
CASES: list[tuple[str, list[str], str | None]] = [
    ("BackboneFinetuning", [], FREEZES),
    ("BaseFinetuning", [], FREEZES),
    ("BasePredictionWriter", [], None),
    ("BatchSizeFinder", [], "give data.batch_size"),
    ("Callback", [], None),
    ("Checkpoint", [], None),
    ("DeviceStatsMonitor", [], None),
    ("EMAWeightAveraging", [], None),
    ("EarlyStopping", ["monitor=global/loss"], None),
    ("EarlyStopping", ["monitor=clients/train_loss"], None),
    (
        "EarlyStopping",
        ["monitor=val_loss"],
        "monitors 'val_loss', which no round has; available metrics are clients/accuracy_mean",
    ),
    ("GradientAccumulationScheduler", ["scheduling={0: 2}"], "a round is one batch and one step"),
    ("LambdaCallback", [], None),
    ("LearningRateFinder", [], "set model.client_optimizer.lr"),
    ("LearningRateMonitor", [], None),
    ("ModelCheckpoint", [], None),
    ("ModelCheckpoint", ["monitor=global/loss", "save_top_k=2"], None),
    ("ModelCheckpoint", ["save_last=true", "filename=best"], None),
    ("ModelCheckpoint", ["every_n_train_steps=1"], None),
    ("ModelCheckpoint", ["save_on_train_epoch_end=false"], None),
    ("ModelCheckpoint", ["monitor=val_loss"], "monitors 'val_loss', which no round has"),
    ("ModelPruning", ["pruning_fn=l1_unstructured"], "prune the net of the finished run"),
    ("ModelSummary", [], None),
    ("OnExceptionCheckpoint", ["dirpath=broken"], None),
    ("ProgressBar", [], None),
    ("RichModelSummary", [], None),
    ("RichProgressBar", [], None),
    ("SpikeDetection", [], "let EarlyStopping monitor clients/train_loss"),
    ("StochasticWeightAveraging", ["swa_lrs=0.1"], "use EMAWeightAveraging"),
    ("TQDMProgressBar", [], None),
    ("ThroughputMonitor", ["batch_size_fn=builtins.len"], None),
    ("Timer", ["duration={minutes: 1}"], None),
    ("WeightAveraging", [], None),
]


def test_the_table_has_all_of_lightnings_callbacks() -> None:
    assert {name for name, _, _ in CASES} == set(lightning_callbacks.__all__)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's and jsonargparse's own, of values they cannot write
@pytest.mark.parametrize(("name", "arguments", "refused"), CASES, ids=lambda value: str(value)[:40])
def test_a_callback_works_or_is_refused_before_the_first_round(
    name: str, arguments: list[str], refused: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    chosen = f"--trainer.callbacks+=lightning.pytorch.callbacks.{name}"
    status = main([*TINY, chosen, *(f"--trainer.callbacks.{argument}" for argument in arguments)])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fedlit: error: ")]
    run = tmp_path / "logs" / "default" / "version_0"
    if refused:
        assert status == 2
        (line,) = said
        assert name in line
        assert refused in line
        assert list(tmp_path.iterdir()) == []  # refused before anything was made
        return
    assert (status, said) == (0, [])
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    assert [row["global/accuracy"] != "" for row in rows if row["round"] in "12"] == [True, True]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    if name == "ModelCheckpoint":
        assert list((run / "own_checkpoints").glob("*.ckpt"))


def test_two_indistinguishable_checkpoint_callbacks_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = ["--trainer.callbacks+=ModelCheckpoint"] * 2
    assert main([*TINY, f"--logs_dir={tmp_path / 'logs'}", *twice]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "more than one stateful callback of type `ModelCheckpoint`" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("loop", [{}, {"diagnostics": Diagnostics(every=1)}], ids=["plain", "diagnostics"])
@pytest.mark.parametrize("held_out", [0.0, 0.5])
def test_the_predicted_metric_names_are_those_of_a_round(loop: dict[str, Diagnostics], held_out: float) -> None:
    class Compare(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: FederatedModule) -> None:  # type: ignore[override]
            self.foretold = metric_names(pl_module)

        def on_train_epoch_end(self, trainer: Trainer, *_: object) -> None:
            self.found = sorted(trainer.callback_metrics)

    compare = Compare()
    federation = data(sizes=(9, 8, 17), client_holdout=held_out)
    fit(loop=FederatedLoop(3, seed=0, **loop), datamodule=federation, rounds=1, callbacks=[compare])
    assert compare.foretold == compare.found


def test_a_metric_that_a_callback_of_the_users_may_log_is_not_refused() -> None:
    class Logs(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: FederatedModule) -> None:  # type: ignore[override]
            pl_module.log("mine", 1.0)

    stop = EarlyStopping("mine", patience=1, check_on_train_epoch_end=True)
    fit(rounds=5, callbacks=[Logs(), stop])
    assert stop.stopped_epoch == 1  # the second round was no better
    with pytest.raises(InputError, match="monitors 'mine', which no round has"):
        fit(rounds=1, callbacks=[EarlyStopping("mine")])


@pytest.mark.filterwarnings("ignore:.*(is not empty|is deprecated)")
def test_an_average_of_models_resumes_to_the_bit(tmp_path: Path) -> None:
    def run(folder: Path, rounds: int, resume: Path | None = None) -> FederatedModule:
        last = ModelCheckpoint(dirpath=folder, filename="last", enable_version_counter=False)
        callbacks = [EMAWeightAveraging(decay=0.5), last]
        module = FederatedModule(net())
        return fit(
            module, FederatedLoop(4, seed=0), rounds=rounds, callbacks=callbacks, enable_checkpointing=True,
            ckpt_path=resume,
        )  # fmt: skip

    straight = run(tmp_path / "straight", 4)
    run(tmp_path / "resumed", 2)
    resumed = run(tmp_path / "resumed", 4, tmp_path / "resumed" / "last.ckpt")
    assert torch.equal(weights(straight.net), weights(resumed.net))
    assert not torch.equal(
        weights(straight.net), weights(fit(FederatedModule(net()), FederatedLoop(4, seed=0), rounds=4).net)
    )


@pytest.mark.parametrize("monitor", ["clients/train_loss", "drift/mean"])
@pytest.mark.parametrize("kind", [EarlyStopping, ModelCheckpoint])
def test_a_monitored_metric_of_clients_that_a_later_round_will_not_have_is_refused(
    kind: type[Callback], monitor: str, tmp_path: Path
):
    """A round in which all clients are dropped or have no examples has no such metric."""
    loop = FederatedLoop(1, 1, seed=0, stragglers=Absent(2), engine=LoopEngine())
    message = rf"{kind.__name__} monitors '{monitor}', which round \d+ does not have, .* let it monitor global/loss"
    with pytest.raises(InputError, match=message):
        fit(loop=loop, rounds=30, root=tmp_path, callbacks=[kind(monitor=monitor)])
    assert list(tmp_path.iterdir()) == []


def test_early_stopping_that_is_not_strict_waits_for_a_round_with_clients():
    loop = FederatedLoop(1, 1, seed=0, stragglers=Absent(0, 1, 2, 3, 4, 5), engine=LoopEngine())
    stopping = EarlyStopping("clients/train_loss", strict=False)
    with pytest.warns(UserWarning, match="every client of round 1 was dropped"):
        fit(loop=loop, rounds=1, callbacks=[stopping])
