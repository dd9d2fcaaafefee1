"""A user's own partitioners work, or are refused in one line; the same share of every stratum is held out."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlit.core.errors import InputError
from fedlit.core.seeding import global_rng_state, rng
from fedlit.data import Partition, Partitioner, Tensors, Uniform
from fedlit.data.splitting import held_out
from fedlit.federated import FederatedLoop

LABELS = np.arange(24) % 3
INPUTS = np.zeros((24, 2), np.float32)

Split = Callable[[np.ndarray, int, np.random.Generator], Any]


class Mine(Partitioner):
    """A rule given as a function."""

    def __init__(self, rule: Split, clients: Any = None) -> None:
        self.rule, self.clients = rule, clients

    def clients_of(self, labels: np.ndarray, groups: np.ndarray | None) -> Any:
        return self.clients

    def split(
        self, labels: np.ndarray, num_clients: int, rng: np.random.Generator, groups: np.ndarray | None = None
    ) -> Partition:
        return self.rule(labels, num_clients, rng)  # type: ignore[no-any-return]


def ready(partitioner: Partitioner, num_clients: int | None = 6, seed: int = 0) -> Tensors:
    data = Tensors(
        train=(INPUTS, LABELS), test=(INPUTS[:3], LABELS[:3]), partition=partitioner, num_clients=num_clients, seed=seed
    )
    data.setup()
    return data


def drawn(draw: Callable[[int, int, np.random.Generator], Any]) -> Split:
    """A rule that draws the client of each example."""
    return lambda labels, n, rng: Partition.from_assignment(draw(len(labels), n, rng), n)


@pytest.mark.parametrize(
    "draw",
    [
        lambda size, n, rng: rng.integers(0, n, size),
        lambda size, n, rng: np.random.randint(0, n, size),  # noqa: NPY002
        lambda size, n, rng: [random.randrange(n) for _ in range(size)],
        lambda size, n, rng: torch.randint(0, n, (size,)),
    ],
    ids=["its rng", "NumPy", "Python", "PyTorch"],
)
def test_draws_of_a_partitioner_depend_on_the_seed_alone_and_restore_global_generators(draw) -> None:
    first, before = ready(Mine(drawn(draw))).partition.hash, global_rng_state()
    np.random.rand()  # noqa: NPY002
    random.random()
    torch.rand(1)
    assert global_rng_state() != before
    before = global_rng_state()
    assert ready(Mine(drawn(draw))).partition.hash == first
    assert global_rng_state() == before
    assert ready(Mine(drawn(draw)), seed=1).partition.hash != first


def test_a_partitioner_with_a_generator_of_its_own_is_refused() -> None:
    own = np.random.default_rng(0)
    with pytest.raises(
        InputError, match=r"Mine.split makes another partition each time .*; draw only from its argument rng"
    ) as raised:
        ready(Mine(drawn(lambda size, n, rng: own.integers(0, n, size))))
    assert "\n" not in str(raised.value)


def test_a_partitioner_that_sorts_labels_in_place_does_not_change_the_data() -> None:
    def by_label(labels: np.ndarray, n: int, rng: np.random.Generator) -> Partition:
        order = np.argsort(labels, kind="stable")
        labels.sort()
        return Partition(order, np.arange(0, 25, 24 // n))

    assert ready(Mine(by_label)).train.targets.tolist() == LABELS.tolist()


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor, np.uint8, np.int32])
def test_clients_are_whole_numbers_of_any_kind(kind: Callable[[Any], Any]) -> None:
    clients = [0, 2, 1, 2]
    assert Partition.from_assignment(kind(clients), np.int64(3)).owners.tolist() == clients
    assert Partition(kind([0, 2, 1, 3]), kind([0, 1, 4])).client(1).tolist() == [2, 1, 3]


@pytest.mark.parametrize("number", [6, np.int64(6), torch.tensor(6)])
def test_a_number_of_clients_is_kept_as_pythons_which_a_checkpoint_takes(number: Any) -> None:
    for data in (ready(Uniform(), number), ready(Mine(drawn(lambda size, n, rng: np.arange(size) % n), number), None)):
        assert data.num_clients == 6
        assert {type(value) for value in data.identity().values()} == {int, str}


class Narrow(Partitioner):
    def split(self, labels, num_clients, rng):  # type: ignore[override]
        return Partition.from_assignment(labels % num_clients, num_clients)


EVEN = drawn(lambda size, n, rng: np.arange(size) % n)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mine(lambda labels, n, _: EVEN(labels, n - 1, None)), "makes 5 clients, .* is 6; set it to 5"),
        (lambda: Mine(lambda labels, n, _: EVEN(labels, n + 1, None)), "makes 7 clients, .* Mine.clients_of"),
        (lambda: Mine(lambda labels, n, _: EVEN(labels[:20], n, None)), "assigns 20 examples .* has 24; assign"),
        (lambda: Mine(lambda labels, n, _: EVEN([*labels, 0], n, None)), "assigns 25 examples .* has 24; assign"),
        (lambda: Mine(lambda labels, n, rng: [np.arange(4)] * n), r"return a .*Partition, got list; .*from_assignment"),
        (lambda: Mine(lambda labels, n, rng: None), "return a fedlit.data.Partition, got NoneType"),
        (lambda: Mine(lambda labels, n, rng: labels % n), "return a fedlit.data.Partition, got ndarray"),
        (lambda: Mine(drawn(lambda size, n, rng: rng.random(size))), r"whole numbers of shape \(N,\), got float64"),
        (lambda: Mine(drawn(lambda size, n, rng: np.zeros((size, 1), int))), r"int64 of shape \(24, 1\); convert"),
        (lambda: Mine(drawn(lambda size, n, rng: np.full(size, n))), r"in 0..5, got 6..6; number the clients from 0"),
        (lambda: Narrow(), r"Narrow.split\(labels, num_clients, rng\) must take .*groups=None"),
        (lambda: Uniform, r"a fedlit.data.Partitioner, got Uniform; make one, such as Uniform\(\)"),
        (lambda: EVEN, "must be a fedlit.data.Partitioner, got function; make one"),
    ],
)  # fmt: skip
def test_a_result_that_is_not_a_partition_of_the_data_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        ready(make())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("clients", "message"), [(0, "at least 1, got 0"), (5.0, "a whole number, got 5.0"), ("5", "'5'")]
)
def test_an_invalid_number_of_clients_of_a_partitioner_is_refused(clients: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"Mine.clients_of must be .*{message}"):
        ready(Mine(EVEN, clients), None)


@pytest.mark.parametrize("name", ["num_clients", "batch_size", "eval_batch_size", "validation_clients", "seed"])
@pytest.mark.parametrize("value", [2.0, "2", [2]])
def test_counts_of_the_data_must_be_whole_numbers(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} must be a whole number, got .*; give an int"):
        Tensors(train=(INPUTS, LABELS), **{name: value})


@pytest.mark.parametrize("name", ["clients_per_round", "seed"])
@pytest.mark.parametrize("value", [2.0, "2"])
def test_counts_of_a_federation_must_be_whole_numbers(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} must be a whole number, got .*; give an int"):
        FederatedLoop(**{name: value})
    assert type(FederatedLoop(np.int64(3)).clients_per_round) is int


@given(strata=st.lists(st.integers(0, 4), max_size=60), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 99))
@settings(deadline=None)
def test_the_same_fraction_of_every_stratum_is_held_out_rounded_down(
    strata: list[int], fraction: float, seed: int
) -> None:
    is_test = held_out(np.array(strata, dtype=np.int64), fraction, rng(seed, "test set"))
    for stratum in set(strata):
        members = np.array(strata) == stratum
        assert is_test[members].sum() == int(members.sum() * fraction) < members.sum()


@pytest.mark.parametrize(("size", "fraction", "held"), [(100, 0.29, 29), (180, 0.35, 63), (90, 0.7, 63), (9, 0.99, 8)])
def test_the_share_held_out_is_that_of_the_decimal_fraction(size: int, fraction: float, held: int) -> None:
    assert held_out(np.zeros(size, dtype=np.int64), fraction, rng(0, "test set")).sum() == held
