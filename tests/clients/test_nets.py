"""A user's own networks are trained, or refused in one line before a run is created."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import odd_nets
import pytest
import torch
from federations import data, fit, images, net, weights
from torch import nn
from torch.optim import SGD

from fedlit.cli import main
from fedlit.clients.nets import input_remedy
from fedlit.core.errors import InputError
from fedlit.core.layout import Layout, read_state
from fedlit.engines import Engine, LoopEngine, TrainerEngine, VectorizedEngine, WorkersEngine
from fedlit.federated import FederatedLoop, FederatedModule
from fedlit.models import MLP

TIED = [odd_nets.TiedWeights, odd_nets.TiedModules]
ENGINES: list[Callable[[], Engine]] = [
    LoopEngine,
    TrainerEngine,
    VectorizedEngine,
    lambda: WorkersEngine(workers=2),
]


@pytest.mark.parametrize("net", TIED)
def test_tied_weights_occur_once_in_the_vector(net: type[nn.Module]) -> None:
    made = net()
    layout = Layout.of(made)
    assert layout.trainable == tuple(name for name, _ in made.named_parameters())
    assert len(read_state(made, layout).floats) == sum(p.numel() for p in made.parameters())


@pytest.mark.parametrize("net", TIED)
def test_tied_weights_are_trained_alike_by_every_engine_and_stay_tied(net: type[nn.Module]) -> None:
    found = []
    for engine in ENGINES:
        if net is odd_nets.TiedModules and engine is VectorizedEngine:
            continue  # it refuses them
        torch.manual_seed(0)
        module = FederatedModule(net(), mu=0.1, client_optimizer=lambda p: SGD(p, lr=0.1))
        start = weights(module.net).clone()
        fit(module, FederatedLoop(clients_per_round=4, seed=0, engine=engine()))
        assert not torch.equal(weights(module.net), start)
        assert torch.equal(module.net.second.weight, module.net.third.weight)
        found.append(weights(module.net))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-6, atol=1e-7)


def test_a_module_of_two_names_is_not_vectorized() -> None:
    with pytest.raises(ValueError, match=r"third is a second name of a module of the net.*use federation\.engine"):
        fit(
            FederatedModule(odd_nets.TiedModules()),
            FederatedLoop(clients_per_round=4, seed=0, engine=VectorizedEngine()),
        )


@pytest.mark.parametrize("case", odd_nets.REFUSED, ids=lambda case: case.net.__name__)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_an_untrainable_net_is_refused_with_the_reason(case: odd_nets.Refused) -> None:
    with pytest.raises(ValueError, match=case.said):
        fit(FederatedModule(case.net()), datamodule=data())


def test_state_that_is_written_in_training_alone_is_accepted() -> None:
    module = fit(FederatedModule(odd_nets.RemembersInTraining()), datamodule=data())
    assert module.net.seen != 0


def test_a_parameter_without_a_dimension_is_trained_alike_by_every_engine() -> None:
    found = []
    for engine in ENGINES:
        torch.manual_seed(0)
        module = FederatedModule(odd_nets.ScalarGate(), mu=0.1, client_optimizer=lambda p: SGD(p, lr=0.1))
        fit(module, FederatedLoop(clients_per_round=4, seed=0, engine=engine()))
        found.append(weights(module.net))
    assert module.net.scale != 0
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-6, atol=1e-7)


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature", "ignore:::lightning")
def test_on_the_command_line_an_untrainable_net_is_one_line_and_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fedlit"])
    for name in ("Lazy", "TwoInputs", "Auxiliary", "Empty", "Colours"):
        assert main(["fit", "--trainer.accelerator=cpu", f"--model.net=odd_nets.{name}"]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
        assert not list(Path().rglob("version_*"))


def test_the_remedy_fits_the_fault() -> None:
    picture = torch.zeros(2, 1, 8, 8)
    assert "stem takes 3 channels and the data has 1" in input_remedy(odd_nets.Colours(), picture)
    assert "image_size" in input_remedy(odd_nets.Head(), picture)
    assert "float64" in input_remedy(odd_nets.Float64(), picture)
    assert "tokens" in input_remedy(odd_nets.Head(), torch.zeros(2, 5, dtype=torch.int64))


@pytest.mark.filterwarnings("ignore:::lightning")
def test_functions_that_make_nets_are_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fedlit"])
    pictures = np.random.default_rng(0).integers(0, 255, (24, 16, 16, 3), dtype=np.uint8)
    np.savez("colours.npz", images=pictures, labels=np.arange(24) % 4)
    common = (
        "fit --trainer.accelerator=cpu --trainer.max_epochs=1 --federation.engine=LoopEngine "
        "--federation.clients_per_round=2 --federation.local_epochs=1 --data=fedlit.data.Tensors "
        "--data.path=colours.npz --data.num_clients=2 --data.partition=Uniform --data.batch_size=4"
    ).split()
    torchvision = ["--model.net=torchvision.models.resnet18", "--model.net.width_per_group=64"]
    timm = [
        "--model.net=timm.create_model",
        "--model.net.model_name=test_resnet",
        "--model.net.dict_kwargs.num_classes=4",
    ]
    for name, words in (("torchvision", torchvision), ("timm", timm)):
        assert main([*common, *words, f"--name={name}"]) == 0
        assert (tmp_path / "logs" / name / "version_0" / "checkpoints" / "last.ckpt").is_file()


def test_the_command_finds_nets_in_the_current_folder(tmp_path: Path) -> None:
    """As installed: its own folder, not the current one, is where Python looks first."""
    (tmp_path / "mynets.py").write_text((Path(odd_nets.__file__)).read_text())
    code = "import sys; from fedlit.cli import main; sys.exit(main())"
    words = ["fit", "--model.net=mynets.Head", "--print_config"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "class_path: mynets.Head" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"net": MLP}, "net is the class MLP; make an object of it: MLP"),
        ({"net": net(), "loss": nn.CrossEntropyLoss}, "loss is the class CrossEntropyLoss; make an object of it"),
        (
            {"net": net(), "loss": nn.functional.cross_entropy},
            "loss must be of the class Module, got the function cross_entropy; give torch",
        ),
        ({"net": "resnet18"}, "net must be of the class Module, got 'resnet18'; give a torch.nn.Module"),
    ],
)
def test_a_model_is_made_of_modules(arguments: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        FederatedModule(**arguments)


def test_a_net_without_values_is_refused() -> None:
    with torch.device("meta"):
        made = nn.Linear(5, 3)
    with pytest.raises(InputError, match="the net's weight is on the meta device and has no values"):
        FederatedModule(made)


def test_a_net_of_another_default_type_is_refused_with_the_call_that_changed_it() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(InputError, match=r"call torch.set_default_dtype\(torch.float32\)"):
            fit(FederatedModule(net()))
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_fit_within_inference_mode_is_refused() -> None:
    with torch.inference_mode(), pytest.raises(InputError, match=r"fit was called within torch\.inference_mode"):
        fit(FederatedModule(net()))


@pytest.mark.parametrize("in_one", [False, True], ids=["layer by layer", "in a Sequential"])
@pytest.mark.parametrize("engine", ENGINES, ids=["loop", "trainer", "vectorized", "workers"])
def test_a_net_that_views_its_maps_trains_like_one_that_flattens_them(
    engine: Callable[[], Engine], in_one: bool
) -> None:
    found = []
    for kind in (odd_nets.Viewing, odd_nets.Flattening):
        torch.manual_seed(0)
        made = FederatedModule(kind(in_one), mu=0.1, client_optimizer=lambda p: SGD(p, lr=0.1))
        made(torch.zeros(2, 1, 8, 8))
        fit(made, FederatedLoop(clients_per_round=4, seed=0, engine=engine()), datamodule=images())
        found.append(weights(made.net))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


def test_the_convolutions_of_a_net_get_the_faster_memory_format_in_a_fit_unless_they_need_the_default() -> None:
    formats = {}
    for kind in (odd_nets.Viewing, odd_nets.Flattening):
        made = FederatedModule(kind())
        assert made.net.more[0].weight.is_contiguous()
        fit(made, FederatedLoop(clients_per_round=2, seed=0), rounds=1, datamodule=images())
        formats[kind] = made.net.more[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert formats == {odd_nets.Viewing: False, odd_nets.Flattening: True}
