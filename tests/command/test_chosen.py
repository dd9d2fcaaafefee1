"""The settings of a config that differ from the defaults."""

from __future__ import annotations

from typing import Any

from fedlit.command.chosen import chosen


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


def test_a_missing_class_is_listed_with_its_arguments() -> None:
    assert chosen({"net": made("gone.Net", depth=3)}, {"net": None}) == {"net": "Net", "net.depth": 3}
