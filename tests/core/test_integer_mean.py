"""The average of integer and boolean buffers, in every engine, rank and algorithm."""

from __future__ import annotations

import math
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from federations import SIZES, data, fit, two_ranks
from torch import Tensor, nn
from torch.optim import SGD

from fedlit.algorithms import (
    AttentiveAggregation,
    ClippedMean,
    CoordinateMedian,
    FedDyn,
    FedNova,
    Krum,
    Scaffold,
    TrimmedMean,
)
from fedlit.core.average import WeightedMean
from fedlit.core.errors import InputError
from fedlit.core.records import Weights
from fedlit.data import Tensors
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import Algorithm, FederatedLoop, FederatedModule

LARGE = 2**53 + 1  # no float64


def average(start: int | bool, *clients: tuple[int | bool, float]) -> int | bool:
    """The average of one entry of a state that was broadcast as ``start``."""

    def state(value: int | bool) -> Weights:
        none, one = torch.tensor([]), torch.tensor([value])
        return Weights(none, none.long(), one) if isinstance(value, bool) else Weights(none, one, none.bool())

    mean = WeightedMean(state(start))
    for value, weight in clients:
        mean.add_state(state(value), weight)
    (result,) = [*mean.mean().counts.tolist(), *mean.mean().flags.tolist()]
    return result


@pytest.mark.parametrize(
    ("start", "clients", "expected"),
    [
        # A vote: more than half of the weight changes a boolean, either way; half of it does not.
        (True, [(False, 1), (False, 1), (True, 1)], False),
        (True, [(False, 1), (True, 1), (True, 1)], True),
        (True, [(False, 3), (True, 1), (True, 1)], False),
        (False, [(True, 2), (False, 5)], False),
        (False, [(True, 6), (False, 5)], True),
        (True, [(False, 2), (True, 2)], True),
        (False, [(False, 2), (True, 2)], False),
        (True, [(False, 0.1), (False, 0.2), (True, 0.3000001)], True),
        # Counters: the furthest, however little it weighs.
        (7, [(10, 1), (8, 100)], 10),
        (7, [(7, 1), (7, 100)], 7),
        (0, [(LARGE, 1), (3, 1)], LARGE),
        # Lowered by anybody: the mean of the moves -1, 0 and 5, of -3 and 0, of -1 and 0, of 1 and -2.
        (7, [(6, 1), (7, 1), (12, 1)], 8),
        (7, [(4, 1), (7, 3)], 6),
        (7, [(6, 1), (7, 1)], 7),
        (-3, [(-2, 1), (-5, 1)], -3),
        (7, [(5, 1), (5, 1)], 5),
        (LARGE, [(LARGE - 2, 1), (LARGE - 2, 1)], LARGE - 2),
    ],
)
def test_the_rule_in_any_order_of_clients(start: Any, clients: list[tuple[Any, float]], expected: Any):
    for order in permutations(clients):
        assert average(start, *order) == expected


class Marked(nn.Module):
    """A linear net that counts in buffers what it saw during training.

    With the sign of a batch, 0 or 1 by its first number: ``mask[sign]`` is cleared, ``level`` falls or rises by 1, and
    ``steps`` counts.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(5, 3)
        self.register_buffer("mask", torch.ones(4, dtype=torch.bool))
        self.register_buffer("level", torch.zeros((), dtype=torch.int32))
        self.register_buffer("steps", torch.zeros((), dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            sign = int(x[0, 0] > 0.5)
            self.mask[sign] = False
            self.level += 1 if sign else -1
            self.steps += 1
        return self.linear(x) * self.mask[3]


def walked(federation: Tensors, clients: list[int], round: int, state: dict[str, Any]) -> list[dict[str, Any]]:
    """The effect of each client on the buffers in one epoch."""
    found = []
    for k in clients:
        mask, level, steps = list(state["mask"]), state["level"], state["steps"]
        for x, _ in federation.client_batches(k, round, 0):
            sign = int(x[0, 0] > 0.5)
            mask[sign] = False
            level += 1 if sign else -1
            steps += 1
        found.append({"mask": mask, "level": level, "steps": steps})
    return found


def by_hand(rounds: int, weights: tuple[float, ...] = SIZES) -> dict[str, Any]:
    """The rule in plain Python."""
    federation = data()
    federation.setup()
    state: dict[str, Any] = {"mask": [True] * 4, "level": 0, "steps": 0}
    for round in range(rounds):
        clients = walked(federation, list(range(len(SIZES))), round, state)
        level = [client["level"] for client in clients]
        if min(level) < state["level"]:
            total = sum(weights)
            moved = sum(w * (v - state["level"]) for w, v in zip(weights, level, strict=True)) / total
            nearest = math.ceil(abs(moved) - 0.5)  # of two as near the smaller move
            new_level = state["level"] + (nearest if moved > 0 else -nearest)
        else:
            new_level = max(level)
        mask = []
        for i, before in enumerate(state["mask"]):
            changed = sum(w for w, client in zip(weights, clients, strict=True) if client["mask"][i] != before)
            mask.append(before != (2 * changed > sum(weights)))
        state = {"mask": mask, "level": new_level, "steps": max(client["steps"] for client in clients)}
    return state


def buffers(module: FederatedModule) -> dict[str, Any]:
    return {name: buffer.tolist() for name, buffer in module.net.named_buffers()}


def run(rounds: int = 3, engine: Engine | None = None, algorithm: Algorithm | None = None, **options: Any):
    module = FederatedModule(Marked(), mu=options.pop("mu", 0.0), client_optimizer=lambda p: SGD(p, lr=0.1))
    loop = FederatedLoop(len(SIZES), 1, seed=0, engine=engine or LoopEngine(), algorithm=algorithm)
    return fit(module, loop, rounds=rounds, **options)


@pytest.mark.parametrize("engine", [LoopEngine, TrainerEngine, lambda: WorkersEngine(workers=2)])
def test_every_engine_follows_the_rule(engine: Any):
    module = run(engine=engine())
    assert buffers(module) == by_hand(3)
    assert [buffer.dtype for buffer in module.net.buffers()] == [torch.bool, torch.int32, torch.uint8]


def test_the_example_by_hand_changes_every_buffer_and_keeps_some_flags():
    """A rule that nothing puts to the test is not guarded."""
    state = by_hand(3)
    assert set(state["mask"]) == {True, False}
    assert state["level"] != 0
    assert state["steps"] > 3


def test_the_batched_engine_refuses_a_net_that_writes_buffers():
    with pytest.raises(InputError, match=r"Marked writes its buffer mask as it trains.*LoopEngine"):
        run(engine=VectorizedEngine())


@pytest.mark.parametrize(
    "algorithm",
    [
        Scaffold,
        FedNova,
        lambda: AttentiveAggregation("distance"),
        CoordinateMedian,
        TrimmedMean,
        ClippedMean,
        lambda: Krum(1),
    ],
)
def test_every_algorithm_follows_the_rule(algorithm: Any):
    assert buffers(run(algorithm=algorithm())) == by_hand(3)


def test_an_algorithm_with_state_follows_the_rule_too():
    assert buffers(run(algorithm=FedDyn(), mu=0.1)) == by_hand(3)


@pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path.")  # the resumed run writes no checkpoints
@pytest.mark.filterwarnings("ignore:It is recommended to use `self.log")
def test_two_ranks_and_a_resumed_run_follow_the_rule(tmp_path: Path):
    run(1, root=tmp_path / "one")
    (checkpoint,) = (tmp_path / "one").rglob("*.ckpt")
    assert buffers(run(3, ckpt_path=checkpoint)) == by_hand(3)
    run(3, root=tmp_path / "two", **two_ranks())
    (checkpoint,) = (tmp_path / "two").rglob("*.ckpt")
    stored = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert {name: stored[f"net.{name}"].tolist() for name in by_hand(0)} == by_hand(3)
