"""Pictures of a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import ROUNDS, fit
from torch import nn

from fedlit.attention import CBAM, Channel, GlobalSpatial, Sensorwise, Spatial, SpatioTemporal, Temporal
from fedlit.cli import main
from fedlit.core.checkpoint import read
from fedlit.data import MNIST5k, SimulatedSensors, Tensors
from fedlit.models import EmnistCNN, SequenceCNN
from fedlit.runs import Pictures
from fedlit.runs.gates import as_images, gate_maps, shown_inputs
from fedlit.runs.read import rows_of


def test_maps_are_the_gates_for_their_inputs() -> None:
    torch.manual_seed(0)
    net = EmnistCNN(Spatial, widths=(2, 3)).train()
    x = torch.randn(4, 1, 28, 28)
    with torch.no_grad():
        first = net.blocks[0]
        before = nn.functional.max_pool2d(first.conv(x), 2).relu()  # (4, 2, 14, 14), what the first gate sees
        expected = first.attention.gate(before)[:, 0].numpy()
    maps = gate_maps(net, x)
    assert {name: values.shape for name, values in maps.items()} == {
        "blocks.0.attention": (4, 14, 14),
        "blocks.1.attention": (4, 7, 7),
    }
    np.testing.assert_allclose(maps["blocks.0.attention"], expected, rtol=1e-6)
    assert net.training
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_a_map_for_all_images_is_repeated_for_each() -> None:
    net = nn.Sequential(GlobalSpatial(2))
    maps = gate_maps(net, torch.randn(3, 2, 8, 8))["0"]
    assert maps.shape[0] == 3
    assert (maps == maps[:1]).all()


def test_channel_gates_have_no_map() -> None:
    assert gate_maps(nn.Sequential(Channel(2)), torch.randn(3, 2, 8, 8)) == {}


def test_cbam_shows_its_spatial_half() -> None:
    net = nn.Sequential(CBAM(2))
    x = torch.randn(3, 2, 8, 8)
    cbam = net[0]
    with torch.no_grad():
        expected = cbam.spatial.gate(cbam.channel(x))[:, 0].numpy()
    np.testing.assert_allclose(gate_maps(net, x)["0"], expected, rtol=1e-6)


def test_gates_over_time_and_space_have_maps_along_them() -> None:
    x = torch.randn(3, 12, 5)
    time, space, both = "blocks.0.attention.time", "blocks.0.attention.space", "blocks.0.attention"
    shapes = {
        Temporal: {both: (3, 6, 1)},
        Sensorwise: {both: (3, 1, 5)},
        SpatioTemporal: {both: (3, 6, 5), time: (3, 6, 1), space: (3, 1, 5)},
    }
    for gate, expected in shapes.items():
        maps = gate_maps(SequenceCNN(gate, widths=[2]), x)
        assert {name: values.shape for name, values in maps.items()} == expected


def test_gates_of_sequences_are_drawn_under_them(tmp_path: Path) -> None:
    data = SimulatedSensors(num_clients=2, recordings=10, steps=12, seed=0)
    data.setup()
    trainer = SimpleNamespace(datamodule=data, global_step=1, loggers=[])
    Pictures(tmp_path, digits=2)._attention(trainer, SequenceCNN(Temporal, widths=[2]))  # type: ignore[arg-type]
    assert (tmp_path / "attention.png").is_file()


def test_pictures_show_no_test_input_if_clients_are_there_for_validation() -> None:
    data = SimulatedSensors(num_clients=4, recordings=10, seed=0, validation_clients=1)
    data.setup()
    assert data.validation is not None
    shown, of_clients, of_test = (
        {tuple(each.flatten().tolist()) for each in inputs}
        for inputs in (shown_inputs(data, 4), data.validation.inputs, data.test.inputs)
    )
    assert len(shown) == 4
    assert shown <= of_clients
    assert shown.isdisjoint(of_test)


def test_a_run_writes_its_pictures(tmp_path: Path) -> None:
    words = (
        "fit --trainer.max_epochs=1 --trainer.accelerator=cpu --model.net.widths=[2] --model.net.hidden=4 "
        "--model.net.attention=fedlit.attention.Spatial --data.num_clients=8 --federation.clients_per_round=2 "
        f"--federation.local_epochs=0.1 --data.seed=3 --logs_dir={tmp_path}"
    )
    assert main(words.split()) == 0
    run = tmp_path / "default" / "version_0"
    facts = json.loads((run / "partition.json").read_text())
    data = MNIST5k(num_clients=8, seed=3)
    data.setup()
    assert (facts["seed"], facts["hash"]) == (3, data.partition.hash)
    assert (facts["smallest"], facts["largest"]) == (500, 500)
    assert (run / "partition.png").is_file()
    assert (run / "confusion.png").is_file()
    board = EventAccumulator(str(run)).Reload()
    assert set(board.Tags()["images"]) == {"view/partition", "view/confusion", "view/attention"}


def shown(run: Path) -> dict[str, list[int]]:
    """The steps of each picture in TensorBoard."""
    board = EventAccumulator(str(run), size_guidance={"images": 0}).Reload()
    return {tag: [image.step for image in board.Images(tag)] for tag in board.Tags()["images"]}


def test_pictures_of_rounds_after_the_checkpoint_are_drawn_again(straight: Path, tmp_path: Path) -> None:
    """TensorBoard removes them on the resume, though their files are there."""
    run = Path(shutil.copytree(straight.parents[1], tmp_path / "logs")) / "run" / "version_0"
    before = shown(run)
    previous = run / "checkpoints" / "previous.ckpt"
    assert read(previous)["global_step"] == ROUNDS - 1
    assert fit(run.parents[1], ROUNDS, f"--ckpt_path={previous}") == 0
    accuracies = [float(row["global/accuracy"]) for row in rows_of(run)]
    best = accuracies.index(max(accuracies)) + 1
    assert shown(run) == before == {"view/partition": [0], "view/confusion": [best], "view/attention": [ROUNDS]}


class Foreign(nn.Module):
    """A module with a method ``gate`` that is not a spatial gate."""

    def __init__(self, gate: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize("gate", [nn.Linear(5, 1), nn.GRU(8, 2), nn.Flatten()], ids=["fails", "no tensor", "no map"])
def test_another_module_called_gate_gives_no_map_and_no_error(gate: nn.Module) -> None:
    assert gate_maps(nn.Sequential(nn.Flatten(2), Foreign(gate)), torch.randn(3, 2, 2, 4)) == {}


def fails(x: torch.Tensor) -> torch.Tensor:
    raise ValueError("not a gate")


@pytest.mark.parametrize("gate", [fails, lambda x: (x,), lambda x: x[0]], ids=["fails", "no tensor", "no map"])
def test_another_method_called_gate_gives_no_map_and_no_error(gate: Callable[[torch.Tensor], object]) -> None:
    assert gate_maps(nn.Sequential(Foreign(gate)), torch.randn(3, 2, 2, 4)) == {}


def test_tokens_with_four_dimensions_are_not_pictures(tmp_path: Path) -> None:
    data = Tensors(train=(np.ones((20, 2, 3, 3), np.int64), np.arange(20) % 2), num_clients=2, seed=0)
    data.setup()
    Pictures(tmp_path)._attention(SimpleNamespace(datamodule=data, global_step=1), Spatial(2))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_inputs_of_any_type_are_drawn(dtype: torch.dtype) -> None:
    images = as_images(torch.tensor([0.5, 1.5], dtype=dtype).view(1, 2, 1, 1))
    assert images is not None
    assert images.dtype == np.float32
    assert images.tolist() == [[[1.0]]]
