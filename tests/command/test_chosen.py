"""The settings of a config that differ from the defaults."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from fedlit.command.chosen import chosen
from fedlit.command.nested import options_within


def made(path: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": path, "init_args": arguments}


def test_only_values_that_differ_are_listed() -> None:
    usual = {"model": {"mu": 0.01, "net": made("fedlit.models.EmnistCNN", hidden=128, norm="none")}}
    given = {"model": {"mu": 0.1, "net": made("fedlit.models.EmnistCNN", hidden=128, norm="group")}}
    assert chosen(given, usual) == {"model.mu": 0.1, "model.net.norm": "group"}
    assert chosen(usual, usual) == {}


def test_for_another_class_its_name_and_its_changed_arguments_are_listed() -> None:
    usual = {"data": made("fedlit.data.MNIST5k", partition=None)}
    partition = made("fedlit.data.Dirichlet", alpha=0.1, min_samples=1)
    given = {"data": made("fedlit.data.EMNIST", split="balanced", batch_size=8, partition=partition)}
    assert chosen(given, usual) == {
        "data": "EMNIST",
        "data.batch_size": 8,
        "data.partition": "Dirichlet",
        "data.partition.alpha": 0.1,
    }
    assert chosen({"net": made("fedlit.models.EmnistCNN", widths=[32, 64])}, {"net": None}) == {"net": "EmnistCNN"}


class Untyped:
    """As much published code is written."""

    def __init__(self, channels, reduction=16):
        pass


def untyped(channels, reduction=16):
    return Untyped(channels, reduction)


@pytest.mark.parametrize("name", ["Untyped", "untyped"])
def test_arguments_without_types_are_listed_as_well(name: str) -> None:
    path = f"{__name__}.{name}"
    given = {"net": made(path, channels=8, reduction=4)}
    assert chosen(given, {"net": None}) == {"net": name, "net.channels": 8, "net.reduction": 4}
    assert "net.channels" not in options_within(getattr(sys.modules[__name__], name), "net", Callable[[int], object])


def test_a_missing_class_is_listed_with_its_arguments() -> None:
    assert chosen({"net": made("gone.Net", depth=3)}, {"net": None}) == {"net": "Net", "net.depth": 3}
