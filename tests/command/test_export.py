"""``fedlit export``, and loading a module without a Trainer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tiny import fit
from torch import Tensor, nn

from fedlit.cli import main
from fedlit.command.export import taken
from fedlit.core.checkpoint import read
from fedlit.core.errors import InputError
from fedlit.data import FederatedData, MNIST5k, Tensors
from fedlit.federated import FederatedModule
from fedlit.federated.reload import load_arguments
from fedlit.models import EmnistCNN


def test_the_file_is_written_to_the_runs_folder_and_its_inputs_are_printed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("export --name run --ckpt_path last --to pt2".split()) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "version_0/last.pt2: the network after round 2" in said
    assert "input: float32 (batch, 1, 28, 28): (pixels / 255 - 0.1309) /" in said
    assert "output: logits of 10 classes" in said
    module = FederatedModule.load_from_checkpoint(run / "checkpoints" / "last.ckpt").eval()
    images = torch.randn(5, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(torch.export.load(run / "last.pt2").module()(images), module(images))


def test_averages_of_tensors_that_stay_with_clients_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, 1, "--federation.algorithm=fedlit.algorithms.KeepLocal") == 0
    capsys.readouterr()
    assert main(f"export --logs_dir {tmp_path} --name run --ckpt_path last --to pt2".split()) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the global model: the file has the average of the clients' own blocks.0.attention.conv" in said


class Centred(MNIST5k):
    """Digits with a conversion of their own."""

    def transform(self, x: Tensor) -> Tensor:
        return x / 127.5 - 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (MNIST5k(), "float32 (batch, 1, 28, 28): (pixels / 255 - 0.1309) / 0.308"),
        (Centred(), f"float32 (batch, 1, 28, 28): the result of {__name__}.Centred.transform"),
        (Tensors(train=(np.ones((9, 4), np.float32), [0, 1, 0] * 3), num_clients=1), "float32 (batch, 4)"),
    ],
    ids=["normalised", "own transform", "numbers"],
)
def test_the_files_inputs_are_described_as_they_are_made(data: FederatedData, said: str) -> None:
    data.setup()
    assert taken(data, data.transform(data.test.inputs)) == said


def test_a_checkpoint_outside_of_a_run_needs_its_config_and_exports_to_the_current_folder(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in ("config.yaml", "checkpoints/best.ckpt"):
        shutil.copy(run / file, Path(file).name)
    words = "export --ckpt_path best.ckpt --to pt2".split()
    assert main(words) == 2
    assert "give it, or the net" in capsys.readouterr().err
    assert main([*words, "--config", "config.yaml"]) == 0
    assert Path("best.pt2").is_file()
    assert main([*words, "--config", "config.yaml"]) == 2
    assert "best.pt2 exists; give another file by --out" in capsys.readouterr().err
    assert main([*words, "--config", "config.yaml", "--out", "new/net.pt2"]) == 0
    assert Path("new/net.pt2").is_file()


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("mine.txt", "mine.txt exists; give another file by --out"),
        ("logs", "logs exists; give another file by --out"),
        ("logs/run/version_0/checkpoints/best.ckpt", "best.ckpt exists; give another file by --out"),
        ("mine.txt/net.pt2", "mine.txt is a file, so nothing can be written to mine.txt; give another --out"),
    ],
)
def test_a_file_that_is_there_is_not_replaced(
    out: str, said: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.txt").write_text("mine")
    before = (run / "checkpoints" / "best.ckpt").read_bytes()
    assert main(["export", *"--name run --ckpt_path best --to pt2 --out".split(), out]) == 2
    assert said in capsys.readouterr().err
    assert Path("mine.txt").read_text() == "mine"
    assert (run / "checkpoints" / "best.ckpt").read_bytes() == before


def test_the_file_may_have_any_name(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("export --name run --ckpt_path last --to pt2 --out new/net.bin".split()) == 0
    assert Path("new/net.bin").is_file()
    assert "archive" not in capsys.readouterr().err  # PyTorch would say that it wants another ending


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--ckpt_path best --to onxx --name run", "to must be one of safetensors, onnx, pt2, got onxx"),
        ("--ckpt_path none.ckpt --to pt2", "no checkpoint file 'none.ckpt'"),
        ("--ckpt_path best --to pt2", "no checkpoint 'best' of a run named 'default'"),
        ("--to pt2", "ckpt_path must be given"),
    ],
    ids=lambda value: value[:20],
)
def test_a_mistake_is_one_line(words: str, said: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", *words.split()]) == 2
    assert said in capsys.readouterr().err


def test_a_module_is_loaded_with_net_and_arguments_of_its_runs_config(run: Path) -> None:
    checkpoint = run / "checkpoints" / "best.ckpt"
    module = FederatedModule.load_from_checkpoint(checkpoint)
    assert isinstance(module.net, EmnistCNN)
    assert module.mu.value == 0.01
    assert module(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    for name, tensor in read(checkpoint)["state_dict"].items():
        assert torch.equal(module.state_dict()[name], tensor), name
    assert FederatedModule.load_from_checkpoint(checkpoint, mu=0.5).mu.value == 0.5


def test_no_config_is_read_if_a_net_is_given(run: Path) -> None:
    from_config = FederatedModule.load_from_checkpoint(run / "checkpoints" / "best.ckpt")
    (run / "config.yaml").unlink()
    given = FederatedModule.load_from_checkpoint(str(run / "checkpoints" / "best.ckpt"), net=from_config.net)
    assert given.net is from_config.net
    with pytest.raises(InputError, match="give it, or the net"):
        FederatedModule.load_from_checkpoint(run / "checkpoints" / "best.ckpt")


def test_a_net_that_does_not_match_is_refused(run: Path) -> None:
    with pytest.raises(InputError, match=r"the checkpoint has another net: .* is .* there and .* here"):
        FederatedModule.load_from_checkpoint(run / "checkpoints" / "best.ckpt", net=EmnistCNN(num_classes=10))


def test_the_data_of_a_config_are_made_but_not_read(run: Path) -> None:
    _, data = load_arguments(run / "config.yaml", FederatedModule)
    assert isinstance(data, MNIST5k)
    assert not hasattr(data, "train")


def test_a_net_of_ones_own_without_annotations_is_made(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "untyped.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Linear):\n"
        "    def __init__(self, num_classes, width=3):\n        super().__init__(width, num_classes)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["net"] = {"class_path": "untyped.Net", "init_args": {"width": 5}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    arguments, _ = load_arguments(run / "config.yaml", FederatedModule)
    assert arguments["net"].weight.shape == (10, 5)


def test_a_config_that_is_not_a_runs_is_named(tmp_path: Path, run: Path) -> None:
    (tmp_path / "short.yaml").write_text("model: {}\n")
    with pytest.raises(InputError, match=r"short.yaml is not the config of a run"):
        FederatedModule.load_from_checkpoint(run / "checkpoints" / "best.ckpt", hparams_file=tmp_path / "short.yaml")


class More(FederatedModule):
    """Takes an argument of its own, and all of the base class."""

    def __init__(self, net: nn.Module, extra: float, **arguments: Any) -> None:
        super().__init__(net, **arguments)
        self.extra = extra


class Fewer(FederatedModule):
    """Takes few of the base class's arguments."""

    def __init__(self, net: nn.Module, extra: float = 1.0, mu: float = 0.5) -> None:
        super().__init__(net, mu)
        self.extra = extra


@pytest.mark.parametrize("kind", [More, Fewer])
def test_a_subclass_is_loaded_with_what_it_takes_of_the_runs_config(kind: Any, run: Path) -> None:
    module = kind.load_from_checkpoint(run / "checkpoints" / "best.ckpt", extra=3.0)
    assert (type(module), module.extra, module.mu.value) == (kind, 3.0, 0.01)


def test_a_device_that_does_not_exist_is_not_called_a_damaged_file(run: Path) -> None:
    with pytest.raises(InputError, match=r"best.ckpt cannot be loaded to nowhere: "):
        FederatedModule.load_from_checkpoint(run / "checkpoints" / "best.ckpt", map_location="nowhere")
