"""What is set between two fits of the same objects takes effect in the second one, or is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from federations import fit, net, weights
from torch import nn
from torch.optim import SGD

from fedlit.algorithms import Clip, Scaffold
from fedlit.core.errors import InputError
from fedlit.data import Dirichlet, Partition, Tensors, Uniform
from fedlit.engines import LoopEngine
from fedlit.federated import ClientModule, FederatedLoop, FederatedModule, Mu, PartialWork, SizeSampling
from fedlit.schedules import Exponential, Schedule

#: Arguments of the module, of the loop, and of the data.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "module": {"client_optimizer": lambda p: SGD(p, lr=0.1)},
    "loop": {"clients_per_round": 3, "local_epochs": 1, "seed": 0, "engine": LoopEngine()},
    "data": {"partition": Dirichlet(1.0, min_samples=2), "num_clients": 6, "batch_size": 4, "seed": 0},
}


class Halved(ClientModule):
    def training_step(self, *batch: Any) -> Any:
        return super().training_step(*batch) / 2


class Mirrored(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -x


#: The object and the argument that are set, to what, and other arguments of the whole case.
EFFECTIVE: list[tuple[str, str, Callable[[], Any]]] = [
    ("module", "mu", lambda: 0.9),
    ("module", "client_optimizer", lambda: lambda p: SGD(p, lr=0.3)),
    ("module", "server_optimizer", lambda: lambda p: SGD(p, lr=0.3)),
    ("module", "loss", lambda: nn.CrossEntropyLoss(label_smoothing=0.5)),
    ("module", "client_schedule", lambda: Exponential(0.1)),
    ("module", "server_schedule", lambda: Exponential(0.1)),
    ("module", "client_clip_norm", lambda: 0.01),
    ("module", "client", lambda: Halved),
    ("loop", "clients_per_round", lambda: 2),
    ("loop", "local_epochs", lambda: 3),
    ("loop", "seed", lambda: 5),
    ("loop", "averaging", lambda: "uniform"),
    ("loop", "sampling", SizeSampling),
    ("loop", "stragglers", lambda: PartialWork(0.5)),
    ("loop", "algorithm", Scaffold),
    ("loop", "algorithm", lambda: [Scaffold(), Clip(0.1)]),
    ("data", "partition", Uniform),
    ("data", "num_clients", lambda: 3),
    ("data", "batch_size", lambda: 8),
    ("data", "seed", lambda: 4),
    ("data", "client_holdout", lambda: 0.3),
    ("data", "validation_clients", lambda: 2),
    ("data", "augment", Mirrored),
    ("data", "test_fraction", lambda: 0.5),
]


def objects(owner: str = "", **changed: Any) -> dict[str, Any]:
    given = {each: {**arguments, **(changed if each == owner else {})} for each, arguments in ARGUMENTS.items()}
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 80)
    inputs = rng.normal(size=(80, 5)).astype(np.float32) + labels[:, None].astype(np.float32)
    return {
        "module": FederatedModule(given["module"].pop("net", net()), **given["module"]),
        "loop": FederatedLoop(**given["loop"]),
        "data": Tensors(train=(inputs, labels), class_names=["a", "b", "c"], **given["data"]),
    }


def train(made: dict[str, Any], **trainer: Any) -> list[float]:
    module = fit(made["module"], made["loop"], made["data"], **trainer)
    return weights(module.net).tolist()


@pytest.mark.parametrize("when", ["before a fit", "between fits"])
@pytest.mark.parametrize(("owner", "name", "value"), EFFECTIVE)
def test_an_argument_that_is_set_later_is_that_of_the_next_fit(
    owner: str, name: str, value: Callable[[], Any], when: str
):
    used = objects()
    if when == "between fits":
        train(used)
    start = copy.deepcopy(used["module"].net.state_dict())
    setattr(used[owner], name, value())
    fresh, unchanged = objects(owner, **{name: value()}), objects()
    for made in (fresh, unchanged):
        made["module"].net.load_state_dict(start)
    found = train(used)
    assert found == train(fresh)
    assert found != train(unchanged)


def test_another_net_is_that_of_the_next_fit():
    used = objects()
    train(used)
    for other in (nn.Linear(5, 3), nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8, affine=False), nn.Linear(8, 3))):
        fresh = objects("module", net=copy.deepcopy(other))
        used["module"].net = other
        assert train(used) == train(fresh)


REFUSED: list[tuple[str, str, Any, str]] = [
    ("module", "net", nn.Linear, "net is the class Linear; make an object of it"),
    ("module", "mu", "0.1", "mu must be of the class Mu, got '0.1'; give a number >= 0"),
    ("module", "mu", -1, "mu must be a finite number >= 0, got -1"),
    ("module", "loss", nn.CrossEntropyLoss, "loss is the class CrossEntropyLoss"),
    ("module", "client_clip_norm", -1.0, "client_clip_norm must be a finite number > 0, got -1.0"),
    ("module", "client_schedule", 0.5, "client_schedule must be of the class Schedule, got 0.5"),
    ("module", "client", nn.Identity(), "client must be a class of clients, got an object of Identity"),
    ("loop", "clients_per_round", 0, "clients_per_round must be at least 1, got 0"),
    ("loop", "clients_per_round", 2.5, "clients_per_round must be a whole number, got 2.5"),
    ("loop", "local_epochs", 0, "local_epochs must be > 0"),
    ("loop", "max_rejected", 7, "max_rejected must be from 0 to 1, got 7"),
    ("loop", "seed", 1.5, "seed must be a whole number, got 1.5"),
    ("loop", "averaging", "sizes", "averaging must be one of 'size', 'uniform', got 'sizes'"),
    ("loop", "sampling", SizeSampling, r"sampling is the class SizeSampling; make an object of it: SizeSampling\("),
    ("loop", "stragglers", 0.5, r"stragglers must be of the class Stragglers, got 0.5; give PartialWork\(0.5\)"),
    ("loop", "algorithm", "scaffold", r"algorithm must be of the class Algorithm, got 'scaffold'; give Scaffold\(\)"),
    ("loop", "algorithm", [Scaffold], "algorithm is the class Scaffold; make an object of it"),
    ("loop", "engine", "workers", r"engine must be of the class Engine, got 'workers'; give WorkersEngine\(\)"),
    ("loop", "diagnostics", True, r"diagnostics must be of the class Diagnostics, got True; give Diagnostics\(\)"),
    ("data", "partition", "iid", "partition must be a fedlit.data.Partitioner, got str"),
    ("data", "num_clients", 0, "num_clients must be at least 1, got 0"),
    ("data", "batch_size", 0, "batch_size must be at least 1, got 0"),
    ("data", "eval_batch_size", 0, "eval_batch_size must be at least 1, got 0"),
    ("data", "client_holdout", 1.0, r"client_holdout must be in \[0, 1\), got 1.0"),
    ("data", "validation_clients", -1, "validation_clients must be at least 0, got -1"),
    ("data", "augment", "flip", "augment must be a module, or a list of modules, got 'flip'"),
    ("data", "test_fraction", 1.0, "test_fraction must be between 0 and 1, got 1.0"),
    ("data", "mean", 0.5, "mean is 0.5 but inputs are float32 numbers"),
]


@pytest.mark.parametrize(("owner", "name", "value", "says"), REFUSED)
def test_a_value_that_cannot_be_used_is_refused_wherever_it_is_given(owner: str, name: str, value: Any, says: str):
    with pytest.raises(InputError, match=says):
        train(objects(owner, **{name: value}))

    def set_later() -> None:
        used = objects()
        setattr(used[owner], name, value)
        train(used)

    with pytest.raises(InputError, match=says):
        set_later()


def test_a_sampling_that_does_not_go_with_the_given_weights_is_refused():
    used = objects("loop", averaging="size")
    used["loop"].sampling = SizeSampling()
    with pytest.raises(InputError, match="counts a client's size twice"):
        train(used)


def test_data_that_could_not_be_split_are_not_used_as_they_were_split_before():
    used = objects()
    train(used)
    used["data"].partitioner = Dirichlet(0.1, min_samples=60)
    for _ in range(2):
        with pytest.raises(InputError, match="6 clients with at least 60 each need 360 samples"):
            train(used)


def test_a_partition_of_ones_own_is_kept_or_refused():
    used = objects()
    mine = Partition.from_assignment(np.arange(80) % 6, 6)
    used["data"].partition = mine
    with pytest.raises(InputError, match="partition was set to a Partition, which this split of the data would replac"):
        train(used)
    used = objects()
    train(used)
    mine = Partition.from_assignment(np.arange(len(used["data"].train)) % 6, 6)
    used["data"].partition = mine
    train(used)
    assert used["data"].partition is mine
    used["data"].seed = 3
    with pytest.raises(InputError, match="partition was set to a Partition"):
        train(used)


class Constant(Mu):
    """A user's own rule with a setting, and state that grows."""

    def __init__(self) -> None:
        self.strength, self.rounds = 0.1, 0

    @property
    def value(self) -> float:
        return self.strength * (1 + self.rounds)

    def update(self, metrics: Any) -> None:
        self.rounds += 1


class Halving(Schedule):
    def __init__(self) -> None:
        self.start, self.rounds = 1.0, 0

    def factor(self, round: int) -> float:
        return self.start * 0.5**self.rounds

    def update(self, metrics: Any) -> None:
        self.rounds += 1


@pytest.mark.parametrize("fails", [False, True])
def test_an_attribute_of_a_rule_that_is_set_between_fits_is_kept(fails: bool):
    """Its state starts anew."""
    mu, schedule = Constant(), Halving()
    used = objects("module", mu=mu, client_schedule=schedule)
    if fails:
        used["loop"].on_update.append(lambda answer: 1 / (1 - answer.task.round))
        with pytest.raises(ZeroDivisionError):
            train(used)
        used["loop"].on_update.clear()
    else:
        train(used)
    assert mu.rounds == schedule.rounds == (1 if fails else 2)
    mu.strength, schedule.start = 0.5, 0.25
    for _ in range(2):
        train(used)
        assert used["module"].round_metrics["federation/mu"] == 1.0
        assert used["module"].round_metrics["federation/client_lr"] == 0.1 * 0.25 * 0.5


def test_a_schedule_for_both_roles_is_updated_once_a_round():
    schedule = Halving()
    used = objects("module", client_schedule=schedule, server_schedule=schedule)
    train(used, rounds=3)
    assert schedule.rounds == 3
    assert used["module"].round_metrics["federation/server_lr"] == 0.25
