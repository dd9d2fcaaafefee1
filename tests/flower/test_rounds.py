"""Real sites give the bits of the simulation; what does not work is refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from federations import Absent, net, weights
from offices import NAMES, OfficeGrid, measured, nodes_of, simulate, sites, train
from torch.optim import SGD, Adam

from fedlit.algorithms import (
    AttentiveAggregation,
    BatchNormPolicy,
    Clip,
    CoordinateMedian,
    FedDyn,
    FedNova,
    KeepLocal,
    Krum,
    Mean,
    Noise,
    PrivateMean,
    Scaffold,
    TrimmedMean,
)
from fedlit.core.errors import InputError
from fedlit.federated import (
    AdaptiveMu,
    ClientModule,
    Diagnostics,
    FederatedModule,
    MuByName,
    PartialWork,
    SizeSampling,
)
from fedlit.schedules import Exponential

pytestmark = pytest.mark.flower


def sgd(parameters: Any) -> SGD:
    return SGD(parameters, lr=0.1)


#: Of each case the server's module and the loop's arguments, made anew at every site, as each builds its own.
CASES: dict[str, tuple[Callable[[], FederatedModule], Callable[[], dict[str, Any]]]] = {
    "FedProx": (lambda: FederatedModule(net(), mu=0.1, client_optimizer=sgd), dict),
    "all clients": (lambda: FederatedModule(net(), client_optimizer=sgd), lambda: {"clients_per_round": 6}),
    "dropout": (lambda: FederatedModule(net(dropout=0.3), client_optimizer=sgd), dict),
    "Adam": (lambda: FederatedModule(net(), client_optimizer=lambda p: Adam(p, lr=0.01)), dict),
    "server momentum": (
        lambda: FederatedModule(net(), client_optimizer=sgd, server_optimizer=lambda p: SGD(p, lr=0.5, momentum=0.9)),
        dict,
    ),
    "clipped gradients": (lambda: FederatedModule(net(), client_optimizer=sgd, client_clip_norm=0.5), dict),
    "falling rate": (
        lambda: FederatedModule(net(), client_optimizer=sgd, client_schedule=Exponential(0.5)),
        dict,
    ),
    "adaptive mu": (lambda: FederatedModule(net(), mu=AdaptiveMu(start=1.0), client_optimizer=sgd), dict),
    "mu by name": (lambda: FederatedModule(net(), mu=MuByName({"0": 0.5}), client_optimizer=sgd), dict),
    "partial work": (
        lambda: FederatedModule(net(), client_optimizer=sgd),
        lambda: {"stragglers": PartialWork(0.9), "local_epochs": 3},
    ),
    "dropped stragglers": (
        lambda: FederatedModule(net(), client_optimizer=sgd),
        lambda: {"stragglers": PartialWork(0.5, drop=True)},
    ),
    "absent clients": (
        lambda: FederatedModule(net(), client_optimizer=sgd),
        lambda: {"stragglers": Absent(0, 2)},
    ),
    "sampling by size": (lambda: FederatedModule(net(), client_optimizer=sgd), lambda: {"sampling": SizeSampling()}),
    "SCAFFOLD": (
        lambda: FederatedModule(net(), mu=0.0, client_optimizer=sgd),
        lambda: {"algorithm": Scaffold(), "averaging": "uniform"},
    ),
    "FedDyn": (
        lambda: FederatedModule(net(), mu=0.1, client_optimizer=sgd),
        lambda: {"algorithm": FedDyn(), "averaging": "uniform"},
    ),
    "FedNova": (lambda: FederatedModule(net(), client_optimizer=sgd), lambda: {"algorithm": FedNova()}),
    "personal parameters": (
        lambda: FederatedModule(net(), client_optimizer=sgd),
        lambda: {"algorithm": KeepLocal([r"^3\."])},
    ),
    "SCAFFOLD with clipped updates": (
        lambda: FederatedModule(net(), mu=0.0, client_optimizer=sgd),
        lambda: {"algorithm": [Scaffold(), Clip(0.5)]},
    ),
    "attentive aggregation": (
        lambda: FederatedModule(net(), client_optimizer=sgd),
        lambda: {"algorithm": AttentiveAggregation()},
    ),
    "median": (lambda: FederatedModule(net(), client_optimizer=sgd), lambda: {"algorithm": CoordinateMedian()}),
    "trimmed mean": (
        lambda: FederatedModule(net(), client_optimizer=sgd),
        lambda: {"algorithm": TrimmedMean(0.3)},
    ),
    "Krum": (
        lambda: FederatedModule(net(), client_optimizer=sgd),
        lambda: {"algorithm": Krum(attackers=1), "clients_per_round": 6},
    ),
    "private mean": (
        lambda: FederatedModule(net(), client_optimizer=sgd),
        lambda: {"algorithm": PrivateMean(clip=0.5, noise_multiplier=0.0), "averaging": "uniform"},
    ),
    "noise": (
        lambda: FederatedModule(net(), client_optimizer=sgd),
        lambda: {"algorithm": [Clip(0.5), Mean(), Noise(0.5, delta=None)], "averaging": "uniform"},
    ),
    "gamma and drift by block": (
        lambda: FederatedModule(net(), client_optimizer=sgd),
        lambda: {"diagnostics": Diagnostics(every=1, dissimilarity=False, blocks={"first": r"^0\."})},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_sites_give_the_bits_of_the_simulation(case: str, tmp_path: Path):
    module, arguments = CASES[case]

    def make() -> tuple[FederatedModule, dict[str, Any]]:
        return module(), {"clients_per_round": 4, "seed": 0, **arguments()}

    expected = simulate(make, rounds=3)
    found = train(make, OfficeGrid(nodes_of(make, tmp_path)), rounds=3)
    assert torch.equal(weights(found), weights(expected))
    assert measured(found) == measured(expected)


def usual() -> tuple[FederatedModule, dict[str, Any]]:
    return FederatedModule(net(), client_optimizer=sgd), {"clients_per_round": 6, "seed": 0}


def test_a_network_with_batch_norm_keeps_its_statistics_on_the_wire(tmp_path: Path):
    def make() -> tuple[FederatedModule, dict[str, Any]]:
        module = FederatedModule(net(norm=True), client_optimizer=sgd)
        return module, {"clients_per_round": 2, "seed": 0, "algorithm": BatchNormPolicy("statistics")}

    names = NAMES[:3]  # of 9, 4 and 17 examples: a batch of one cannot be normalised

    def several() -> Any:
        return sites(names, batch_size=5)

    grid = OfficeGrid(nodes_of(make, tmp_path, range(3)))
    found = train(make, grid, several(), rounds=2)
    buffers = dict(found.net.named_buffers())
    assert any(int(buffer) > 0 for name, buffer in buffers.items() if name.endswith("num_batches_tracked"))


def test_own_accuracy_is_measured_at_the_sites(tmp_path: Path):
    grid = OfficeGrid(nodes_of(usual, tmp_path))
    found = train(usual, grid, sites(client_holdout=0.3), rounds=1)
    # A third of 9, 4, 17, 1, 12 and 6, rounded down, is held out: all but the site of one example measure it.
    assert 0 <= found.round_metrics["clients/own_accuracy_mean"] <= 1
    assert found.round_metrics["round/samples"] == 2 * sum(n - int(0.3 * n) for n in (9, 4, 17, 1, 12, 6))


def test_dissimilarity_is_refused_as_it_needs_all_gradients(tmp_path: Path):
    def make() -> tuple[FederatedModule, dict[str, Any]]:
        return FederatedModule(net(), client_optimizer=sgd), {"diagnostics": Diagnostics(), "clients_per_round": 2}

    with pytest.raises(InputError, match=r"dissimilarity needs the gradients of all clients.*set it to false"):
        train(make, OfficeGrid(nodes_of(make, tmp_path)))


def test_a_client_that_needs_a_trainer_is_refused(tmp_path: Path):
    class Client(ClientModule):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            pass

    class Module(FederatedModule):
        client_class = Client

    def make() -> tuple[FederatedModule, dict[str, Any]]:
        return Module(net(), client_optimizer=sgd), {"clients_per_round": 2}

    with pytest.raises(InputError, match="overrides on_train_batch_start"):
        train(make, OfficeGrid(nodes_of(make, tmp_path)))


def test_sites_train_in_the_servers_precision(tmp_path: Path):
    expected = simulate(usual, rounds=2, precision="bf16-mixed")
    found = train(usual, OfficeGrid(nodes_of(usual, tmp_path)), rounds=2, precision="bf16-mixed")
    assert torch.equal(weights(found), weights(expected))


def test_a_second_fit_of_the_same_objects_greets_the_sites_again(tmp_path: Path):
    grid = OfficeGrid(nodes_of(usual, tmp_path))
    train(usual, grid, data := sites(), rounds=1)
    train(usual, grid, data, rounds=1)
    assert [kind for _, kind in grid.asked].count("query.greet") == 2 * len(NAMES)


def test_the_engine_is_refused_outside_of_a_server_app():
    from federations import fit

    from fedlit.federated import FederatedLoop
    from fedlit.flower import FlowerEngine

    module, arguments = usual()
    with pytest.raises(InputError, match="only be reached through Flower: start the run by flwr run"):
        fit(module, FederatedLoop(**arguments, engine=FlowerEngine()), sites())


def test_other_data_are_refused_by_the_engine_and_other_engines_by_the_data(tmp_path: Path):
    from federations import data, fit
    from offices import flower

    from fedlit.engines import LoopEngine
    from fedlit.federated import FederatedLoop
    from fedlit.flower import FlowerEngine

    module, arguments = usual()
    with pytest.raises(InputError, match=r"the data are Tensors; use fedlit\.flower\.Sites"):
        fit(module, FederatedLoop(**arguments, engine=FlowerEngine()), data())
    module, arguments = usual()
    with (
        flower(OfficeGrid(nodes_of(usual, tmp_path))),
        pytest.raises(InputError, match=r"the examples of the clients are at the sites; use federation\.engine"),
    ):
        fit(module, FederatedLoop(**arguments, engine=LoopEngine()), sites())
