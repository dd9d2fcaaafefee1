"""Vectors that clients keep for an algorithm, from a fit to the disk and to the client's next fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from contents import kept
from federations import SIZES, data, fit, net, weights
from torch import Tensor
from torch.optim import SGD

from fedlit.algorithms import CoordinateMedian, Scaffold, chain
from fedlit.clients.store import ClientStore
from fedlit.core.errors import InputError
from fedlit.engines import Engine, LoopEngine, TrainerEngine, WorkersEngine
from fedlit.federated import FederatedLoop, FederatedModule

ENGINES = [LoopEngine, TrainerEngine, lambda: WorkersEngine(workers=2), lambda: WorkersEngine(workers=2, block_size=3)]


class Short(Scaffold):
    def end(self, *arguments: object) -> Tensor:
        return super().end(*arguments)[1:]


class Double(Scaffold):
    def end(self, *arguments: object) -> Tensor:
        return super().end(*arguments).double()


class Forgetful(Scaffold):
    """Only clients that take three steps or more keep anything."""

    def end(self, sent: object, ended: object, steps: int, kept: Tensor | None) -> Tensor | None:
        return super().end(sent, ended, steps, kept) if steps > 2 else None


def run(root: Path, algorithm: Scaffold, engine: Engine, rounds: int = 2) -> FederatedLoop:
    loop = FederatedLoop(6, 1, seed=0, algorithm=algorithm, engine=engine)
    fit(FederatedModule(net(), mu=0.0, client_optimizer=lambda p: SGD(p, lr=0.1)), loop, data(), rounds, root)
    return loop


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("algorithm", "gives"), [(Short, r"float32 of shape \(74,\)"), (Double, r"float64 of shape")])
def test_a_kept_vector_of_a_wrong_type_or_size_stops_the_run(
    algorithm: type[Scaffold], gives: str, engine: type[Engine], tmp_path: Path
):
    # 5 x 8 + 8 and 8 x 3 + 3 scalars.
    with pytest.raises(InputError, match=rf"{algorithm.__name__}.end returned torch.{gives}.*its kept_size is 75"):
        run(tmp_path, algorithm(), engine())


@pytest.mark.parametrize("engine", ENGINES)
def test_clients_keep_the_same_vectors_in_every_engine(engine: type[Engine], tmp_path: Path):
    run(tmp_path / "it", Forgetful(), engine())
    run(tmp_path / "loop", Forgetful(), LoopEngine())
    found = kept(tmp_path / "it" / "clients")
    assert found == kept(tmp_path / "loop" / "clients")
    assert [*found] == [k for k, size in enumerate(SIZES) if -(-size // 4) > 2]


def test_a_round_makes_one_file_whatever_its_clients(tmp_path: Path):
    run(tmp_path, Scaffold(), WorkersEngine(workers=2), rounds=1)
    assert [path.name for path in (tmp_path / "clients").iterdir()] == ["000000-0.pack"]


def test_an_average_that_collects_updates_does_not_hold_kept_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = []
    monkeypatch.setattr(CoordinateMedian, "transform", lambda self, sent, update: found.append(update.kept) or update)
    run(tmp_path, chain(Scaffold(), CoordinateMedian()), LoopEngine(), rounds=1)
    assert found == [None] * 6


def test_vectors_outlive_the_round_in_the_folder_that_a_user_named_relatively(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    store = ClientStore(Path("clients"))
    with store.keeping(0) as keep:
        keep(0, torch.ones(2))
    store.begin()
    monkeypatch.chdir("/")
    assert store.find([0], 1)[0].read().tolist() == [1, 1]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_second_run_in_a_folder_leaves_the_vectors_of_the_first(tmp_path: Path):
    """In a notebook all runs without a logger write to the same folder."""
    mine = tmp_path / "clients"
    run(tmp_path, Scaffold(), LoopEngine())
    (first,) = tmp_path.rglob("*.ckpt")
    vectors = kept(mine)
    other = FederatedLoop(6, 1, seed=1, algorithm=Scaffold(), engine=LoopEngine())
    fit(FederatedModule(net(1), mu=0.0), other, data(), root=tmp_path)
    assert kept(mine) == vectors
    assert [*kept(tmp_path / "clients-v1")] == [*vectors]
    resumed, straight = (FederatedModule(net(), mu=0.0, client_optimizer=lambda p: SGD(p, lr=0.1)) for _ in range(2))
    for module, checkpoint, root in ((resumed, first, tmp_path), (straight, None, tmp_path / "straight")):
        loop = FederatedLoop(6, 1, seed=0, algorithm=Scaffold(), engine=LoopEngine())
        fit(module, loop, data(), rounds=4, root=root, ckpt_path=checkpoint)
    assert torch.equal(weights(resumed), weights(straight))
    (second,) = tmp_path.glob("checkpoints/*-v1.ckpt")
    module = FederatedModule(net(1), mu=0.0)
    again = FederatedLoop(6, 1, seed=1, algorithm=Scaffold(), engine=LoopEngine())
    fit(module, again, data(), rounds=3, root=tmp_path, ckpt_path=second)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "clients", "clients-v1", "straight"]


def test_a_folder_of_a_users_that_has_the_name_is_left_alone(tmp_path: Path):
    mine = tmp_path / "clients" / "checkpoints.json"
    mine.parent.mkdir()
    mine.write_text("mine")
    run(tmp_path, Scaffold(), LoopEngine(), rounds=1)
    assert [path.read_text() for path in mine.parent.iterdir()] == ["mine"]
    assert kept(tmp_path / "clients-v1")
