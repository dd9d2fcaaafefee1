"""Client k is the site at position k of the server's list, whatever a site states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import net, weights
from offices import NAMES, Node, OfficeGrid, client_of, nodes_of, sites, train, trainer_of, usual
from torch import nn
from torch.optim import SGD

from fedlit.algorithms import KeepLocal
from fedlit.core.errors import InputError
from fedlit.data import Dirichlet, Tensors
from fedlit.federated import FederatedModule
from fedlit.flower import FlowerEngine, Sites
from fedlit.flower.frame import Bytes, WireError, pack, unpack
from fedlit.flower.kinds import INTRODUCTION
from fedlit.flower.link import name_of
from fedlit.flower.site_file import SiteFile
from fedlit.flower.site_trainer import SiteTrainer


def test_a_sites_name_is_that_of_its_registered_key():
    assert name_of("north", "north", True) == "north"


def test_without_registration_the_stated_name_counts():
    assert name_of("", "north", False) == "north"


@pytest.mark.parametrize("must", [True, False])
def test_a_site_cannot_state_another_name_than_that_of_its_key(must: bool):
    with pytest.raises(WireError, match="registered as north, but it states the name south"):
        name_of("north", "south", must)


def test_an_unregistered_key_is_refused_if_registration_is_required():
    with pytest.raises(
        WireError, match="its key is not registered under a name; register it by flwr supernode register"
    ):
        name_of("", "north", True)


BAD_SITES: dict[str, tuple[dict[str, Any], str]] = {
    "no sites": ({"names": []}, r"data\.sites is empty"),
    "a name twice": ({"names": ["a", "b", "a"]}, r"data\.sites has 'a'; every name must be there once"),
    "an empty name": ({"names": [""]}, r"data\.sites has ''"),
    "a name that steers a terminal": ({"names": ["a\x1b[31m"]}, r"data\.sites has"),
    "no time": ({"wait_s": 0.0}, r"data\.wait_s must be > 0"),
    "a batch of none": ({"batch_size": 0}, "batch_size must be at least 1"),
}


@pytest.mark.parametrize("case", BAD_SITES)
def test_invalid_settings_of_sites_are_refused(case: str):
    arguments, said = BAD_SITES[case]
    with pytest.raises(InputError, match=said):
        sites(**arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_clients", 7), ("partition", Dirichlet(0.5)), ("validation_clients", 1), ("augment", nn.Identity())],
)
def test_arguments_of_other_data_are_refused_when_they_are_set_later(name: str, value: Any):
    data = sites()
    data.setup("test")
    setattr(data, name, value)
    with pytest.raises(InputError, match=f"^{name} was set, but each site is a client"):
        data.setup("fit")


def test_a_seed_that_is_set_later_takes_effect():
    data = sites()
    data.setup("test")
    data.seed = 7
    data.is_set_up = False  # a fit would ask the sites
    data.setup("test")
    assert (data.seed, data.terms.data_seed) == (7, 7)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_an_invalid_timeout_is_refused(seconds: float):
    with pytest.raises(InputError, match="timeout_s must be at least 1"):
        FlowerEngine(seconds)


def test_the_servers_mean_and_std_must_be_given_or_measurable():
    images = np.zeros((4, 8, 8), np.uint8)
    data = Sites(["a"], Tensors(train=(images, [0, 1, 2, 0])), registered=False)
    with pytest.raises(InputError, match=r"data\.mean and data\.std are not given"):
        data.setup("test")


def test_mean_and_std_are_measured_on_the_servers_training_examples_if_it_has_any():
    images = np.full((4, 8, 8), 51, np.uint8)
    held_out = Tensors(train=(images, [0, 1, 2, 0]), test=(images, [0, 1, 2, 0]))
    data = Sites(["a"], held_out, std=0.5, registered=False)
    data.setup("test")
    assert data.mean == [pytest.approx(51 / 255)]
    assert data.std == 0.5


@pytest.mark.flower
def test_client_numbers_follow_the_list_of_sites_whatever_their_nodes(tmp_path: Path):
    nodes = nodes_of(usual, tmp_path)
    shuffled = dict(zip(nodes, reversed(nodes.values()), strict=True))
    first = train(usual, OfficeGrid(nodes), rounds=2)
    second = train(usual, OfficeGrid(shuffled), rounds=2)
    assert torch.equal(weights(first), weights(second))


def replaced(nodes: dict[int, Node], client: int, node: Node) -> OfficeGrid:
    return OfficeGrid({**nodes, 900 - client: node})


def with_data(folder: Path, data: Tensors, name: str = NAMES[2]) -> Node:
    """A site that has other data."""
    place = SiteFile(folder / "site.yaml", name, {}, folder / "other", accelerator="cpu")
    return Node(SiteTrainer(place, lambda: data, lambda terms: client_of(usual, terms)).answer)


def built_otherwise(**changes: Any) -> Callable[[], tuple[FederatedModule, dict[str, Any]]]:
    """A site with other code than the server's."""

    def make() -> tuple[FederatedModule, dict[str, Any]]:
        arguments = {"net": net(), "client_optimizer": lambda p: SGD(p, lr=0.1), **changes}
        algorithm = {"algorithm": arguments.pop("algorithm")} if "algorithm" in arguments else {}
        return FederatedModule(**arguments), {"clients_per_round": 4, "seed": 0, **algorithm}

    return make


INPUTS = np.zeros((6, 5), np.float32)
OTHERS: dict[str, tuple[Callable[[Path], Node], str]] = {
    "other classes": (
        lambda folder: with_data(folder, Tensors(train=(INPUTS, [0, 1] * 3), class_names=["x", "y", "z"])),
        r"site site2: its classes are x, y, z, but the federation's are a, b, c; use the server's names",
    ),
    "more classes": (
        lambda folder: with_data(folder, Tensors(train=(INPUTS, [0, 1, 2, 3, 0, 1]))),
        r"site site2: its classes are 0, 1, 2, 3",
    ),
    "inputs of another shape": (
        lambda folder: with_data(folder, Tensors(train=(np.zeros((6, 4), np.float32), [0, 1] * 3))),
        r"does not take the data's inputs of shape \(4,\)",
    ),
    "inputs of another type": (
        lambda folder: with_data(
            folder, Tensors(train=(np.zeros((6, 5), np.int64), [0, 1, 2] * 2), class_names=["a", "b", "c"])
        ),
        r"does not take the data's inputs",
    ),
    "data that cannot be read": (
        lambda folder: with_data(folder, Tensors(path=str(folder / "none.npz"))),
        r"none\.npz cannot be read: there is no",
    ),
    "another network": (
        lambda folder: Node(trainer_of(built_otherwise(net=nn.Linear(5, 3)), 2, folder).answer),
        r"site site2: layout is .* at the site and .* at the server",
    ),
    "another loss": (
        lambda folder: Node(
            trainer_of(built_otherwise(loss=nn.CrossEntropyLoss(label_smoothing=0.1)), 2, folder).answer
        ),
        r"site site2: loss is .*'label_smoothing': 0\.1",
    ),
    "another optimizer": (
        lambda folder: Node(trainer_of(built_otherwise(client_optimizer=lambda p: SGD(p, lr=0.2)), 2, folder).answer),
        r"site site2: optimizer is .*'lr': 0\.2.* at the site and .*'lr': 0\.1",
    ),
    "another clip": (
        lambda folder: Node(trainer_of(built_otherwise(client_clip_norm=1.0), 2, folder).answer),
        r"site site2: client is .*client_clip_norm 1\.0 at the site",
    ),
    "another algorithm": (
        lambda folder: Node(trainer_of(built_otherwise(algorithm=KeepLocal([r"^3"])), 2, folder).answer),
        r"site site2: algorithm is KeepLocal",
    ),
    "a name that is not on the list": (
        lambda folder: Node(trainer_of(usual, 2, folder, name="stranger").answer),
        r"node 898: its name stranger is not in data\.sites",
    ),
    "a name that another has": (
        lambda folder: Node(trainer_of(usual, 2, folder, name="site1").answer),
        r"node 898: site1 has reconnected with another examples, data",
    ),
    "another key's name": (
        lambda folder: Node(trainer_of(usual, 2, folder).answer, name="site4"),
        r"node 898: its key is registered as site4, but it states the name site2",
    ),
    "no answer": (lambda folder: Node(lambda frame: None), r"no answer from site2 within 1 s; start the SuperNodes"),
    "an error": (lambda folder: Node(lambda frame: "<class 'OSError'>:<'disk'>"), r"node 898: .*OSError.*disk"),
}


@pytest.mark.flower
@pytest.mark.parametrize("case", OTHERS)
def test_a_site_that_does_not_match_is_refused_by_name_before_the_first_round(case: str, tmp_path: Path):
    node, said = OTHERS[case]
    grid = replaced(nodes_of(usual, tmp_path), 2, node(tmp_path))
    with pytest.raises(InputError, match=said) as error:
        train(usual, grid, sites(wait_s=1.0))
    assert "\n" not in str(error.value)
    assert "train.fit" not in {kind for _, kind in grid.asked}


@pytest.mark.flower
def test_another_version_at_a_site_is_refused(tmp_path: Path):
    honest = trainer_of(usual, 2, tmp_path)

    def older(frame: Bytes) -> bytes:
        found = unpack(honest.answer(frame), INTRODUCTION)
        return pack(found._replace(values={**found.values, "fedlit": "0.0.1"}))

    with pytest.raises(
        InputError,
        match=r"site site2: fedlit is 0\.0\.1 at the site and .* at the server; install the server's version",
    ):
        train(usual, replaced(nodes_of(usual, tmp_path), 2, Node(older)))


@pytest.mark.flower
def test_a_site_without_names_for_its_classes_and_without_the_last_class_takes_part(tmp_path: Path):
    data = Tensors(train=(INPUTS, [0, 1] * 3))
    train(usual, replaced(nodes_of(usual, tmp_path), 2, with_data(tmp_path, data)), rounds=1)


@pytest.mark.flower
def test_names_must_be_registered_by_default(tmp_path: Path):
    nodes = nodes_of(usual, tmp_path)
    with pytest.raises(InputError, match="its key is not registered under a name"):
        train(usual, OfficeGrid(nodes), sites(registered=True))
    for number, node in nodes.items():
        node.name = NAMES[900 - number]
    train(usual, OfficeGrid(nodes), sites(registered=True), rounds=1)
