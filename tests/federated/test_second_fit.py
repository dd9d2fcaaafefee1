"""A second fit of the same objects equals a fit of new ones, except for its initial weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from federations import data, fit, net, table, weights
from lightning import Callback, Trainer, seed_everything
from torch.optim import SGD, Adam

from fedlit.algorithms import (
    AttentiveAggregation,
    ClippedMean,
    FedDyn,
    FedNova,
    KeepLocal,
    Krum,
    PrivateMean,
    Scaffold,
)
from fedlit.core.errors import InputError
from fedlit.data import Dirichlet, FederatedData, Tensors
from fedlit.engines import LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import (
    AdaptiveMu,
    Algorithm,
    ClientAnswer,
    Diagnostics,
    FederatedLoop,
    FederatedModule,
    Mu,
    PartialWork,
)
from fedlit.runs import MetricsTable, Outcome, Participation, Pictures, RoundProgress
from fedlit.schedules import Schedule

TIMES = ("round/seconds", "round/samples_per_second")


class Rising(Mu):
    """A user's own rule, with state that it does not put into checkpoints."""

    def __init__(self) -> None:
        self.rounds: list[float] = []

    @property
    def value(self) -> float:
        return 0.1 * len(self.rounds)

    def update(self, metrics: Any) -> None:
        self.rounds.append(metrics["clients/train_loss"])


class Slowing(Algorithm):
    """A user's own algorithm, whose steps get smaller with each round."""

    def conclude(self, state: Any, sent: Any, average: Any) -> Any:
        seen = state.get("rounds", 0) + 1
        floats = sent.weights.floats.lerp(average.weights.floats, 1 / seen)
        return {**state, "rounds": seen}, average.weights._replace(floats=floats)


class Waning(Schedule):
    """A user's own schedule, which halves the rate with each round."""

    def __init__(self) -> None:
        self.heard = 0

    def factor(self, round: int) -> float:
        return 0.5**self.heard

    def update(self, metrics: Any) -> None:
        self.heard += 1


#: Arguments of the loop, and the rule for mu.
CASES: dict[str, tuple[Callable[[], dict[str, Any]], Callable[[], float | Mu]]] = {
    "fedprox": (dict, lambda: 0.1),
    "mu that adapts": (dict, lambda: AdaptiveMu(0.5, patience=1)),
    "a rule of one's own": (dict, Rising),
    "an algorithm of one's own": (lambda: {"algorithm": Slowing()}, lambda: 0.1),
    "scaffold": (lambda: {"algorithm": Scaffold()}, lambda: 0.0),
    "fednova": (lambda: {"algorithm": FedNova(), "stragglers": PartialWork(0.5)}, lambda: 0.1),
    "feddyn": (lambda: {"algorithm": FedDyn()}, lambda: 0.1),
    "gates of their own": (lambda: {"algorithm": KeepLocal(["0.weight"])}, lambda: 0.1),
    "attentive": (lambda: {"algorithm": AttentiveAggregation()}, lambda: 0.1),
    "clipped": (lambda: {"algorithm": ClippedMean()}, lambda: 0.1),
    "krum": (lambda: {"algorithm": Krum(0)}, lambda: 0.1),
    "private": (lambda: {"algorithm": PrivateMean(0.5, 0.0), "averaging": "uniform"}, lambda: 0.1),
    "diagnostics": (lambda: {"diagnostics": Diagnostics(every=2)}, lambda: 0.1),
    "trainers": (lambda: {"engine": TrainerEngine()}, lambda: 0.1),
    "workers": (lambda: {"engine": WorkersEngine(workers=2)}, lambda: 0.1),
    "batched": (lambda: {"engine": VectorizedEngine()}, lambda: 0.1),
    "rates by a schedule of one's own": (dict, lambda: 0.1),
    "a seed of its own": (lambda: {"seed": 5}, lambda: 0.1),
}


def examples(seed: int | None = None) -> Tensors:
    """An unequal split and a test set that are drawn by the seed."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 80)
    inputs = rng.normal(size=(80, 5)).astype(np.float32) + labels[:, None].astype(np.float32)
    return Tensors(
        train=(inputs, labels),
        class_names=["a", "b", "c"],
        partition=Dirichlet(1.0, min_samples=2),
        num_clients=6,
        batch_size=4,
        test_fraction=0.2,
        client_holdout=0.2,
        seed=seed,
    )


class Objects(NamedTuple):
    """The arguments of a fit, and the folder of the run."""

    module: FederatedModule
    loop: FederatedLoop
    data: FederatedData
    callbacks: list[Callback]
    folder: Path


def fresh(case: str, folder: Path) -> Objects:
    arguments, mu = CASES[case]
    loop = FederatedLoop(4, 1, **{"engine": LoopEngine(), **arguments()})
    schedule = Waning() if case.startswith("rates") else None
    module = FederatedModule(net(), mu=mu(), client_optimizer=lambda p: SGD(p, lr=0.5), client_schedule=schedule)
    folder.mkdir()
    callbacks = [Outcome(folder), Participation(folder), Pictures(folder, every_n_rounds=1)]
    return Objects(module, loop, examples(), callbacks, folder)


class Told(NamedTuple):
    """The results of a fit: weights, rows of metrics, files of its folder, and the clients of each round."""

    weights: list[float]
    metrics: list[dict[str, str]]
    files: dict[str, bytes]
    heard: list[tuple[int, int]]


def train(objects: Objects, seed: int, rounds: int = 3) -> Told:
    seed_everything(seed, verbose=False)
    heard: list[tuple[int, int]] = []

    def listen(answer: ClientAnswer) -> None:
        heard.append((answer.task.round, answer.task.client))

    module, loop, federation, callbacks, folder = objects
    loop.on_update.append(listen)
    logger = MetricsTable(folder / "metrics.csv")
    fit(module, loop, federation, rounds, logger=logger, default_root_dir=folder, callbacks=callbacks)
    loop.on_update.remove(listen)
    rows = [{name: value for name, value in row.items() if name not in TIMES} for row in table(folder / "metrics.csv")]
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix and path.name != "metrics.csv"}
    return Told(weights(module.net).tolist(), rows, files, heard)


def starting_from(case: str, module: FederatedModule, folder: Path) -> Objects:
    """Fresh objects but for the weights."""
    objects = fresh(case, folder)
    objects.module.net.load_state_dict(copy.deepcopy(module.net.state_dict()))
    return objects


@pytest.mark.parametrize("case", CASES)
def test_a_second_fit_equals_one_of_fresh_objects(case: str, tmp_path: Path):
    """The second fit has another seed, a new Trainer, and data that are split anew."""
    used = fresh(case, tmp_path / "used")
    first = train(used, 1)
    others = starting_from(case, used.module, tmp_path / "others")
    second, alone = train(used, 2, rounds=2), train(others, 2, rounds=2)
    assert second == alone
    assert len(second.metrics) == 2
    assert len(second.heard) <= 8
    if case != "a seed of its own":
        assert set(second.heard) != {(round, client) for round, client in first.heard if round < 2}


def test_a_second_fit_with_other_data_or_another_loop_equals_a_fresh_one(tmp_path: Path):
    used = fresh("scaffold", tmp_path / "used")
    train(used, 1)
    again = used._replace(loop=FederatedLoop(4, 1, algorithm=used.loop.algorithm), data=examples(7))
    others = starting_from("scaffold", used.module, tmp_path / "others")._replace(data=examples(7))
    assert train(again, 2) == train(others, 2)


def test_a_second_fit_after_a_failed_one_equals_a_fresh_one(tmp_path: Path):
    used = fresh("scaffold", tmp_path / "used")

    def fail(answer: ClientAnswer) -> None:
        if answer.task.round == 1:
            raise ZeroDivisionError

    used.loop.on_update.append(fail)
    with pytest.raises(ZeroDivisionError):
        train(used, 1)
    used.loop.on_update.clear()
    others = starting_from("scaffold", used.module, tmp_path / "others")
    assert train(used, 2) == train(others, 2)


class FailsTwice(Callback):
    """Fails in a round, and again when it is told of that."""

    def on_train_epoch_end(self, *_: object) -> None:
        raise ZeroDivisionError

    def on_exception(self, *_: object) -> None:
        raise FloatingPointError


def test_an_error_in_on_exception_of_a_callback_leaves_nothing_behind():
    """Lightning then tells no other callback of the end."""
    loop, module = FederatedLoop(4, seed=0, engine=LoopEngine()), FederatedModule(net())
    generator = np.random.get_bit_generator()  # type: ignore[attr-defined]
    trainer = Trainer(
        max_epochs=2,
        callbacks=[FailsTwice(), loop],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.raises(FloatingPointError):
        trainer.fit(module, datamodule=data())
    start = copy.deepcopy(module.net.state_dict())
    fit(module, loop)
    assert np.random.get_bit_generator() is generator  # type: ignore[attr-defined]
    fresh = FederatedModule(net())
    fresh.net.load_state_dict(start)
    fit(fresh, FederatedLoop(4, seed=0, engine=LoopEngine()))
    assert torch.equal(weights(module), weights(fresh))


def test_a_progress_bar_is_told_of_each_client_once_in_every_fit(tmp_path: Path):
    loop, bar = FederatedLoop(3, seed=0, engine=LoopEngine()), RoundProgress()
    for _ in range(3):
        counted: list[int] = []
        bar._on_update = lambda answer, counted=counted: counted.append(answer.task.client)  # type: ignore[method-assign]
        fit(loop=loop, rounds=2, enable_progress_bar=True, callbacks=[bar])
        assert len(counted) == 6
        assert loop.on_update == []


def test_the_best_score_of_one_fit_does_not_carry_over(tmp_path: Path):
    """Pictures are drawn for a second fit that is worse than the first, and show nothing of the first."""
    callbacks = [Outcome(tmp_path), Pictures(tmp_path)]
    scores: list[float] = []
    for rate, seed in ((0.5, 0), (0.0, 1)):
        module = FederatedModule(net(seed), client_optimizer=lambda p, rate=rate: SGD(p, lr=rate))
        loop = FederatedLoop(6, 3, seed=0, engine=LoopEngine())
        fit(module, loop, rounds=2, default_root_dir=tmp_path, callbacks=callbacks)
        scores.append(module.scores.accuracy())
        (tmp_path / "confusion.png").unlink()
        (tmp_path / "classes.csv").unlink()
    assert scores[0] > scores[1]
    fit(loop=FederatedLoop(6, seed=0, engine=LoopEngine()), callbacks=callbacks, limit_val_batches=0)
    assert not (tmp_path / "classes.csv").exists()


def test_the_data_keep_their_split_except_for_another_fit():
    """Otherwise a test could use examples of the training set."""
    seed_everything(1, verbose=False)
    federation = examples()
    federation.setup("fit")
    split, held_out = federation.partition.hash, federation.test.inputs
    seed_everything(2, verbose=False)
    for stage in ("validate", "test", "predict", None):
        federation.setup(stage)
        assert federation.seed == 1
        assert federation.partition.hash == split
        assert torch.equal(federation.test.inputs, held_out)
    federation.setup("fit")
    assert federation.seed == 2
    assert federation.partition.hash != split
    other = examples(2)
    other.setup("fit")
    assert federation.partition.hash == other.partition.hash


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_trainer_that_has_trained_is_refused_with_the_remedy(tmp_path: Path):
    module = FederatedModule(net(), server_optimizer=lambda p: Adam(p, lr=0.01))
    loop = FederatedLoop(3, seed=0, engine=LoopEngine())
    fit(module, loop, rounds=2, root=tmp_path)
    trainer: Trainer = module.trainer
    trainer.fit_loop.max_epochs = 4
    with pytest.raises(InputError, match=r"this Trainer has finished 2 rounds.*make a new Trainer"):
        trainer.fit(module, datamodule=data())
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    trainer.fit(module, datamodule=data(), ckpt_path=checkpoint, weights_only=True)  # its state is in there
    straight = FederatedModule(net(), server_optimizer=lambda p: Adam(p, lr=0.01))
    fit(straight, FederatedLoop(3, seed=0, engine=LoopEngine()), rounds=4)
    assert torch.equal(weights(module.net), weights(straight.net))
