"""The data module: setup, normalisation, a client's batches, ranks."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning import Trainer
from numpy.testing import assert_allclose

from fedlit.core.errors import InputError
from fedlit.core.seeding import generator, rng
from fedlit.data import ByGroup, Dirichlet, Examples, FederatedData, Partition, Partitioner, Synthetic
from fedlit.data.module import normalise
from fedlit.federated import FederatedLoop
from fedlit.federated.loop import Rounds


class Toy(FederatedData):
    """200 training and 11 test examples of 4 classes in 8 groups, target i % 4; counts how often it is loaded."""

    loads = 0

    @property
    def class_names(self) -> list[str]:
        return list("abcd")

    def load(self) -> tuple[Examples, Examples]:
        self.loads += 1
        rows = torch.arange(211)
        inputs = rows.to(torch.uint8).view(-1, 1, 1, 1)
        groups = np.arange(200) % 8
        return Examples(inputs[:200], rows[:200] % 4, groups), Examples(inputs[200:], rows[200:] % 4)


def rows_of(batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> list[int]:
    """Which rows of Toy there are in batches: with mean 0 and std 1 the input of row i is i / 255."""
    return [round(float(each) * 255) for x, _ in batches for each in x.flatten()]


def ready(**kwargs) -> Toy:
    data = Toy(**kwargs)
    data.setup("fit")
    return data


def test_setup_loads_once_and_splits_over_a_hundred_clients_by_default() -> None:
    data = ready()
    data.setup("validate")
    data.setup("test")
    assert data.loads == 1
    assert data.num_clients == data.partition.num_clients == 100
    assert data.partition.sizes.tolist() == [2] * 100
    assert (data.num_classes, data.in_channels) == (4, 1)


def test_another_partitioner_is_that_of_the_next_fit() -> None:
    data = ready(num_clients=7, seed=5)
    data.partitioner = Dirichlet(0.3)
    data.setup("fit")
    assert data.partition.hash == ready(partition=Dirichlet(0.3), num_clients=7, seed=5).partition.hash


def test_the_partition_is_addressed_by_the_seed_alone() -> None:
    direct = Dirichlet(0.3).split(np.arange(200) % 4, 7, rng(5, "partition"))
    assert ready(partition=Dirichlet(0.3), num_clients=7, seed=5).partition.hash == direct.hash
    assert ready(partition=Dirichlet(0.3), num_clients=7, seed=6).partition.hash != direct.hash


def test_without_a_seed_that_of_seed_everything_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    assert ready().seed == 5
    assert ready().partition.hash == ready(seed=5).partition.hash


def test_by_group_makes_a_client_of_every_group() -> None:
    data = ready(partition=ByGroup())
    assert data.num_clients == 8
    assert data.partition.client(3).tolist() == list(range(3, 200, 8))


def test_client_batches_are_the_clients_rows_in_the_addressed_order() -> None:
    data = ready(num_clients=3, batch_size=16)
    rows = data.partition.client(1)
    batches = data.client_batches(client=1, round=4, seed=9)
    for epoch in range(2):
        order = torch.randperm(len(rows), generator=generator(9, "batches", 4, 1, epoch)).numpy()
        seen = torch.cat([x for x, _ in batches]).flatten() * 255
        assert_allclose(seen, rows[order], atol=1e-3)  # mean 0 and std 1: the input of row i is i / 255
    assert len(batches) == -(-len(rows) // 16)


def test_client_eval_batches_are_the_clients_rows_in_order() -> None:
    data = ready(num_clients=3, eval_batch_size=50)
    batches = data.client_eval_batches(2)
    assert len(batches) == 2  # 66 rows
    assert torch.cat([y for _, y in batches]).tolist() == (data.partition.client(2) % 4).tolist()


@pytest.mark.parametrize("world_size", [1, 2, 3, 20])
@pytest.mark.parametrize("loader", ["val_dataloader", "test_dataloader", "predict_dataloader"])
def test_the_ranks_share_the_test_set_without_counting_anything_twice(world_size: int, loader: str) -> None:
    data = ready(eval_batch_size=4)
    seen: list[int] = []
    for rank in range(world_size):
        data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)
        seen += rows_of(getattr(data, loader)())
    assert sorted(seen) == list(range(200, 211))


def test_without_a_trainer_the_test_set_is_whole() -> None:
    data = ready()
    assert rows_of(data.val_dataloader()) == list(range(200, 211))


def test_the_training_batches_are_rounds_which_the_federated_loop_gives() -> None:
    data = ready()
    with pytest.raises(InputError, match="needs the FederatedLoop callback"):
        data.train_dataloader()
    loop = FederatedLoop(1)
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[loop])
    assert isinstance(data.train_dataloader(), Rounds)


def test_a_move_takes_both_sets_along() -> None:
    data = ready()
    data.to("meta")
    assert {data.train.inputs.device.type, data.test.targets.device.type} == {"meta"}


def test_normalising_is_of_units_of_one_and_by_channel() -> None:
    x = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)  # 0, 0.2 and 1 in units of one
    scalar, by_channel = normalise(x, 0.5, 0.25), normalise(x, [0, 0.1, 0.2], [1, 0.1, 0.4])
    assert_allclose(scalar.flatten(), [(0 - 0.5) / 0.25, (0.2 - 0.5) / 0.25, (1 - 0.5) / 0.25], rtol=1e-6)
    assert_allclose(by_channel.flatten(), [(0 - 0) / 1, (0.2 - 0.1) / 0.1, (1 - 0.2) / 0.4], rtol=1e-6)
    assert x.flatten().tolist() == [0, 51, 255]
    floats = torch.rand(2, 3)
    assert normalise(floats, 0.5, 0.25) is floats


def test_a_repair_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    class Repairing(Partitioner):
        def split(self, labels, num_clients, rng, groups=None) -> Partition:
            return Partition.from_assignment(np.arange(len(labels)) % num_clients, num_clients, "moved 3 samples")

    with caplog.at_level("INFO"):
        ready(partition=Repairing())
    assert "Repairing partition: moved 3 samples" in caplog.text


@pytest.mark.parametrize("name", ["num_clients", "batch_size", "eval_batch_size"])
def test_sizes_below_one_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} must be at least 1, got 0"):
        Toy(**{name: 0})


def clients_of(data: Synthetic) -> list[list[list[float]]]:
    return [
        data.train.inputs[torch.from_numpy(data.partition.client(k).copy())].tolist() for k in range(data.num_clients)
    ]


def test_validation_clients_never_train_and_are_what_rounds_are_validated_on() -> None:
    whole, apart = Synthetic(num_clients=6, seed=3), Synthetic(num_clients=6, seed=3, validation_clients=2)
    whole.setup()
    apart.setup()
    everyone, left = clients_of(whole), clients_of(apart)
    assert apart.num_clients == len(left) == 4
    assert all(client in everyone for client in left)
    out = [row for client in everyone if client not in left for row in client]
    assert sorted(out) == sorted(torch.cat([x for x, _ in apart.val_dataloader()]).tolist())
    assert torch.equal(apart.test.inputs, whole.test.inputs)
    assert len(torch.cat([y for _, y in apart.test_dataloader()])) == len(whole.test)


class AllAtOne(Partitioner):
    """The first client has every example."""

    def split(self, labels, num_clients, rng, groups=None):
        return Partition.from_assignment(np.zeros(len(labels), dtype=np.int64), num_clients)


@pytest.mark.parametrize(
    ("with_all", "said"),
    [(False, "have no examples to validate on"), (True, "have all examples, which leaves none to")],
)
def test_validation_clients_without_examples_or_with_all_are_refused(with_all: bool, said: str) -> None:
    """Rounds would not be validated, without a word, or have nobody to train."""
    draws = {seed: int(rng(seed, "validation clients").choice(3, 1, replace=False)[0]) for seed in range(30)}
    seed, client = next((seed, client) for seed, client in draws.items() if (client == 0) == with_all)
    data = Synthetic(num_clients=3, seed=seed, partition=AllAtOne(), validation_clients=1)
    with pytest.raises(InputError, match=rf"clients that seed {seed} draws \({client}\) {said}.*; change data.valid"):
        data.setup()


def test_examples_held_out_of_each_client_are_its_own() -> None:
    whole, split = Synthetic(num_clients=3, seed=3), Synthetic(num_clients=3, seed=3, client_holdout=0.25)
    whole.setup()
    split.setup()
    for k, everything in enumerate(clients_of(whole)):
        own = torch.cat([x for x, _ in split.client_holdout_batches(k)]).tolist()
        assert len(own) == len(everything) // 4
        assert sorted(own + clients_of(split)[k]) == sorted(everything)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_clients": -1}, "validation_clients must be at least 0, got -1"),
        ({"validation_clients": 3}, "validation_clients is 3 of 3 clients, which leaves none to train; lower"),
        ({"client_holdout": 1.0}, r"client_holdout must be in \[0, 1\), got 1.0; 0.2 holds out a fifth"),
    ],
)
def test_held_out_parts_that_leave_no_examples_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Synthetic(num_clients=3, **options).setup()
