"""A config can call only classes of the expected kind, and functions annotated to return one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import Dataset

from fedlit.cli import main
from fedlit.command.functions import check_functions, types_in
from fedlit.federated import Mu


def gate(channels: int) -> nn.Module:
    return nn.Identity()


def gates(kind: str = "a") -> Callable[[int], nn.Module]:
    return gate


def unannotated(channels: int):  # type: ignore[no-untyped-def]
    return nn.Identity()


HERE = __name__
#: A value with a function that leaves a file behind if it is called.
TOUCH = {"class_path": "os.system", "init_args": {"command": "touch called"}}
RESNET = {"class_path": "torchvision.models.ResNet", "init_args": {"block": "torchvision.models.resnet.BasicBlock"}}
PLACES: dict[str, Any] = {
    "net": {"model": {"net": TOUCH}},
    "attention": {"model": {"net": {"init_args": {"attention": TOUCH}}}},
    "client's optimizer": {"model": {"client_optimizer": TOUCH}},
    "server's optimizer": {"model": {"server_optimizer": TOUCH}},
    "loss": {"model": {"loss": TOUCH}},
    "mu": {"model": {"mu": TOUCH}},
    "data": {"data": TOUCH},
    "partition": {"data": {"init_args": {"partition": TOUCH}}},
    "data set": {"data": {"class_path": "fedlit.data.TorchDataset", "init_args": {"train": TOUCH}}},
    "engine": {"federation": {"engine": TOUCH}},
    "algorithm": {"federation": {"algorithm": TOUCH}},
    "callback": {"trainer": {"callbacks": [TOUCH]}},
    "logger": {"trainer": {"logger": TOUCH}},
    "layers of another's net": {"model": {"net": {**RESNET, "init_args": {"norm_layer": TOUCH, "layers": [1]}}}},
}


@pytest.mark.parametrize("tree", PLACES.values(), ids=list(PLACES))
def test_a_function_without_return_annotation_is_refused_and_not_called(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fedlit"])
    Path("hostile.yaml").write_text(json.dumps(tree))
    assert main(["fit", "--config=hostile.yaml"]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "os.system is not called" in err
    assert "hostile.yaml" in err
    assert not Path("called").exists()
    assert not Path("logs").exists()


def test_a_function_given_by_name_only_is_refused_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    for key, kind in (("model.net.attention", "Module"), ("model.client_optimizer", "Optimizer")):
        unannotated = f"{HERE}.unannotated"
        assert main(["fit", f"--{key}={unannotated}"]) == 2
        assert (
            f"{key}: {unannotated} is neither a subclass of {kind} nor a function annotated to "
            "return one" in capsys.readouterr().err
        )


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("gate", nn.Module),
        ("gate", nn.Module | None),
        ("gate", list[nn.Module]),
        ("gates", Callable[[int], nn.Module] | None),
        ("gate", Any),
        ("gate", Callable),
    ],
)
def test_a_function_annotated_to_return_the_wanted_type_is_called(name: str, wanted: Any) -> None:
    check_functions("key", {"class_path": f"{HERE}.{name}"}, wanted)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("gate", Optimizer),
        ("gate", Callable[..., Optimizer]),
        ("unannotated", nn.Module),
        ("unannotated", Any),
        ("unannotated", Callable),
    ],
)
def test_other_functions_are_not_called(name: str, wanted: Any) -> None:
    for value in ({"class_path": f"{HERE}.{name}"}, [{"class_path": f"{HERE}.{name}"}]):
        with pytest.raises(ValueError, match=rf"^key: {HERE}\.{name} is not called"):
            check_functions("key", value, wanted)


def test_types_in_lists_the_classes_of_an_annotation() -> None:
    assert types_in(float | Mu | None) == (float, Mu)
    assert types_in(Callable[[], Dataset[Any]] | Dataset[Any]) == (Dataset, Dataset)
    assert types_in(Callable[[int], nn.Module] | None) == (nn.Module,)
    assert types_in(dict[str, torch.Tensor]) == (str, torch.Tensor)
    assert types_in(Any) == types_in(None) == types_in(object) == ()
