"""The command line: its commands, and one line for each mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import Namespace
from jsonargparse._parameter_resolvers import get_signature_parameters

import fedlit.attention
import fedlit.data
import fedlit.engines
import fedlit.models
from fedlit.cli import main
from fedlit.command.fit import FedlitCLI
from fedlit.command.trainer import Trainer, best_precision
from fedlit.data import EMNIST, Dirichlet, MNIST5k
from fedlit.federated import FederatedLoop, FederatedModule
from fedlit.models import EmnistCNN

TINY = (
    "--trainer.max_epochs=1 --trainer.accelerator=cpu --model.net.widths=[2] --model.net.hidden=4 "
    "--federation.clients_per_round=2 --federation.local_epochs=0.1"
).split()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def parse(*words: str) -> Namespace:
    """The config of ``fedlit fit`` with these arguments, without running it."""
    cli = FedlitCLI.__new__(FedlitCLI)
    config: list[Namespace] = []

    def stop(self: FedlitCLI, command: str) -> None:
        config.append(self.config_init[command])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FedlitCLI, "run", stop)
        patch.setattr(sys, "argv", ["fedlit"])
        cli.__init__(["fit", "--trainer.logger=false", *words])  # type: ignore[misc]
    return config[0]


# --- mistakes --------------------------------------------------------------------------------------------------------

NET = "model:\n  net:\n    class_path: fedlit.models.EmnistCNN\n    init_args:\n      "
DATA = "data:\n  class_path: fedlit.data.MNIST5k\n  init_args:\n    "
PARTITION = f"{DATA}partition:\n      class_path: fedlit.data.Dirichlet\n      init_args:\n        "
ALPHA = "--data.partition fedlit.data.Dirichlet --data.partition.alpha"

# Of each: the words after fedlit (in which FILE is a file of the text given), the value and the remedy to be named.
MISTAKES = {
    "key": ("fit --trainer.max_epoch 2", "", "--trainer.max_epoch:", "did you mean --trainer.max_epochs?"),
    "key of ours": (
        "fit --federation.client_per_round=2",
        "",
        "client_per_round",
        "did you mean --federation.clients_per",
    ),
    "key of a net": ("fit --model.net.atention=x", "", "model.net.atention", "did you mean attention?"),
    "key of data": ("fit --data.num_client 4", "", "data.num_client", "did you mean num_clients?"),
    "key of a partition": (f"fit {ALPHA[:-5]}alfa 1", "", "data.partition.alfa", "did you mean alpha?"),
    "key unlike any": ("fit --quiet", "", "--quiet", "--help"),
    "yaml section": ("fit --config FILE", "federatoin:\n  seed: 1", "federatoin.seed", "did you mean federation.seed?"),
    "yaml key": ("fit --config FILE", "model:\n  mux: 3", "model.mux", "did you mean model.mu?"),
    "yaml key of a net": (
        "fit --config FILE",
        f"{NET}norms: group",
        "file.yaml: model.net.norms",
        "did you mean norm?",
    ),
    "yaml key of data": ("fit --config FILE", f"{DATA}num_client: 3", "data.num_client", "did you mean num_clients?"),
    "yaml key of a partition": ("fit --config FILE", f"{PARTITION}alfa: 1", "data.partition.alfa", "mean alpha?"),
    "type": ("fit --federation.clients_per_round many", "", "clients_per_round must be a whole number, got many", "10"),
    "type of a nested value": (f"fit {ALPHA} big", "", "data.partition.alpha must be a number, got big", "0.5"),
    "yaml type": ("fit --config FILE", f"{DATA}num_clients: many", "data.num_clients must be a whole", "--help"),
    "choice": ("fit --model.net.norm layer", "", "model.net.norm must be one of none, group, batch, got layer", "none"),
    "precision": ("fit --trainer.precision bf61-mixed", "", "got bf61-mixed", "did you mean bf16-mixed?"),
    "no value": ("fit --model.mu", "", "--model.mu needs a value", "--help"),
    "class": ("fit --data fedlit.data.EMNISTT", "", "got fedlit.data.EMNISTT", "did you mean fedlit.data.EMNIST?"),
    "attention": (
        "fit --model.net.attention fedlit.attention.Spacial",
        "",
        "Spacial",
        "mean fedlit.attention.Spatial?",
    ),
    "optimizer": ("fit --model.client_optimizer torch.optim.SDG", "", "torch.optim.SDG", "mean torch.optim.SGD?"),
    "package": ("fit --model.net.attention nopackage.Gate", "", "nopackage.Gate", "install it, or correct"),
    "class of another kind": (
        "fit --data torch.optim.SGD",
        "",
        "torch.optim.SGD is not a subclass of FederatedData",
        ".help",
    ),
    "no class": ("fit --data 3", "", "data must be a class path, got 3", "package.module.Class"),
    "yaml class": ("fit --config FILE", "data:\n  class_path: fedlit.data.EMNISTT", "EMNISTT", "fedlit.data.EMNIST?"),
    "alpha": (f"fit {ALPHA} 0", "", "alpha must be a finite number > 0, got 0", "use fedlit.data.Uniform"),
    "mu": ("fit --model.mu=-1", "", "mu must be a finite number >= 0, got -1", "0 is FedAvg"),
    "cohort": (
        "fit --federation.clients_per_round 200",
        "",
        "200 but there are 100 clients",
        "lower federation.clients",
    ),
    "clients": ("fit --data.num_clients 5000", "", "5000", "use num_clients <= 4000"),
    "split": ("fit --data fedlit.data.EMNIST --data.split lettres", "", "got lettres", "did you mean letters?"),
    "no files": ("fit --data fedlit.data.EMNIST --data.root none --data.download=false", "", "none/EMNIST", "MNIST5k"),
    "no config": ("fit --config configs/none.yaml", "", "configs/none.yaml", "give the path of a YAML file"),
    "config near another": ("fit --config fiel.yaml", "", "fiel.yaml", "file.yaml?"),
    "yaml syntax": ("fit --config FILE", "model: {mu: 1\ntrainer: [", "file.yaml: not valid YAML", "line 2, column 8"),
    "yaml tab": ("fit --config FILE", "model:\n\tmu: 1", "file.yaml: not valid YAML", "line 2, column 1"),
    "yaml scalar": ("fit --config FILE", "hello", "not a config: hello", "key: value"),
    "yaml empty": ("fit --config FILE", " ", "not a config", "key: value"),
    "no checkpoint file": ("fit --ckpt_path none.ckpt", "", "'none.ckpt'", "use --ckpt_path last, best or a file"),
    "no run": (
        "fit --name mine --ckpt_path last",
        "",
        "'last' of a run named 'mine'",
        "start a run without --ckpt_path",
    ),
    "no checkpoint": ("fit --ckpt_path FILE", "text", "file.yaml is not a complete checkpoint", "use --ckpt_path"),
    "test of nothing": ("test", "", "fedlit test", "--ckpt_path best, last or a file"),
    "test of no run": ("test --ckpt_path best --name mine", "", "'best' of a run named 'mine'", "--name"),
    "command": ("fti", "", "'fti'", "did you mean fit?"),
    "word for epochs": ("fit --epochs 3", "", "--epochs", "--federation.local_epochs"),
    "word for rounds": ("fit --rounds=3", "", "--rounds", "--trainer.max_epochs"),
    "word for a rate": ("fit --lr 0.1", "", "--lr", "--model.client_optimizer.lr"),
    "word for rounds in a section": ("fit --federation.num_rounds=3", "", "num_rounds", "--trainer.max_epochs"),
    "word for a share of clients": ("fit --federation.fraction_fit 0.1", "", "fraction_fit", "clients_per_round"),
    "word for steps": ("fit --federation.local_steps 5", "", "local_steps", "a fraction is a number of batches"),
    "word for an optimizer": ("fit --model.optimizer Adam", "", "--model.optimizer", "--model.client_optimizer"),
    "word for a schedule": ("fit --model.scheduler StepLR", "", "--model.scheduler", "--model.client_schedule"),
    "FedAvg as a class": ("fit --federation.algorithm FedAvg", "", "got FedAvg", "--model.mu 0; leave it out"),
    "FedProx by its path": (
        "fit --federation.algorithm fedlit.algorithms.FedProx",
        "",
        "fedlit.algorithms.FedProx",
        "--model.mu above 0; leave it out",
    ),
    "FedAdam as an algorithm": (
        "fit --federation.algorithm FedAdam",
        "",
        "got FedAdam",
        "use --model.server_optimizer FedAdam",
    ),
    "a tensor": (
        "fit --model.loss torch.nn.CrossEntropyLoss --model.loss.weight [1,3]",
        "",
        "model.loss.weight must be a tensor, got [1, 3]",
        "name a function of your own",
    ),
    "argument of a class without any": (
        "fit --data.partition Uniform --data.partition.alpha 1",
        "",
        "data.partition.alpha: no such option",
        "name another class before it, or leave it out",
    ),
    "argument without its class": (
        "fit --data.partition.alpha 1",
        "",
        "data.partition.alpha: the class that has it is missing",
        "name the class before it",
    ),
    "argument without its class, where a number can be given": (
        "fit --model.mu.start 1",
        "",
        "model.mu.start: the class that has it is missing",
        "name the class before it",
    ),
    "word for clients": ("fit --clients 5", "", "--clients", "--data.num_clients"),
    "config without its option": ("fit FILE", "", "file.yaml: no such option", "--config file.yaml"),
    "short name of an attention": ("fit --model.net.attention Spatail", "", "got Spatail", "did you mean Spatial?"),
    "short name of a partition": ("fit --data.partition Dirichlt", "", "got Dirichlt", "did you mean Dirichlet?"),
    "short name of an algorithm": ("fit --federation.algorithm Scafold", "", "got Scafold", "did you mean Scaffold?"),
    "short name of an optimizer": ("fit --model.client_optimizer Adm", "", "got Adm", "did you mean Adam?"),
}


@pytest.mark.parametrize(("words", "text", "value", "remedy"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_one_line_with_value_and_remedy(
    words: str, text: str, value: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file.yaml").write_text(text)
    assert main(words.replace("FILE", "file.yaml").split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("fedlit: error: ")
    assert value in err
    assert remedy in err
    assert not Path("logs").exists()


def test_a_refused_resume_leaves_the_run_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *TINY]) == 0
    before = {path: path.stat().st_mtime_ns for path in Path("logs").rglob("*")}
    for command, change, said in (
        ("fit", "--model.net.hidden=5", "model.net.hidden: 4 -> 5"),
        ("fit", "--data.num_clients=50", "data.num_clients: null -> 50"),
        ("test", "--model.net.hidden=5", "(4, 392) there and (5, 392)"),
    ):
        capsys.readouterr()
        assert main([command, *TINY, "--ckpt_path=last", change]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        assert said in err
        assert "config.yaml" in err
    assert {path: path.stat().st_mtime_ns for path in Path("logs").rglob("*")} == before


def test_a_truncated_checkpoint_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"global_step": 1}, "whole.ckpt")
    Path("part.ckpt").write_bytes(Path("whole.ckpt").read_bytes()[:300])
    assert main(["fit", "--ckpt_path", "part.ckpt"]) == 2
    assert "part.ckpt is not a complete checkpoint" in capsys.readouterr().err


# --- what is given arrives -------------------------------------------------------------------------------------------


def test_the_options_of_the_federation_take_effect() -> None:
    config = parse(
        *"--trainer.max_epochs 7 --model.mu 0.1 --model.net.attention fedlit.attention.Spatial".split(),
        *"--model.client_optimizer.lr 0.03 --federation.clients_per_round 9 --federation.local_epochs 2".split(),
        "--seed_everything",
        "5",
    )
    module, loop, trainer = config.model, config.federation, config.trainer
    assert (trainer.max_epochs, module.mu.value, loop.clients_per_round, loop.local_epochs) == (7, 0.1, 9, 2.0)
    assert [type(block.attention) for block in module.net.blocks] == [fedlit.attention.Spatial] * 2
    assert module.client_optimizer(module.net.parameters()).param_groups[0]["lr"] == 0.03
    assert torch.initial_seed() == 5
    assert os.environ["PL_GLOBAL_SEED"] == "5"


def test_the_options_of_the_data_take_effect_and_its_classes_reach_the_net() -> None:
    flags = "--data fedlit.data.EMNIST --data.root DIR --data.split letters --data.num_clients 12 --data.batch_size 16"
    config = parse(*flags.split(), *ALPHA.split(), "0.5")
    data = config.data
    assert isinstance(data, EMNIST)
    assert (data.root, data.split, data.batch_size, data._requested_clients) == (Path("DIR"), "letters", 16, 12)
    assert isinstance(data.partitioner, Dirichlet)
    assert data.partitioner.alpha == 0.5
    assert config.model.net.head[-1].out_features == 26


def test_without_a_config_the_bundled_data_are_used() -> None:
    config = parse()
    assert isinstance(config.data, MNIST5k)
    assert isinstance(config.model.net, EmnistCNN)


@pytest.mark.parametrize("words", [[], ["--model.net.attention=fedlit.attention.CBAM", *ALPHA.split(), "0.5"]])
def test_a_printed_config_runs_unchanged(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", *TINY, *words, "--print_config"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    Path("printed.yaml").write_text(printed)
    assert main(["fit", "--config", "printed.yaml"]) == 0
    saved = yaml.safe_load(Path("logs/printed/version_0/config.yaml").read_text())
    given = yaml.safe_load(printed)
    for section in ("model", "data", "federation", "seed_everything"):
        assert saved[section] == given[section]


# --- where a run goes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([], "default"),
        (["--config=first.yaml"], "first"),
        (["--config=first.yaml", "--config=second.yaml"], "second"),
        (["--config=first.yaml", "--name=mine"], "mine"),
        (["--config=model: {mu: 0.3}"], "default"),  # YAML in place of a file
        (["--config=first.yaml", "--config=model: {mu: 0.3}"], "first"),
    ],
)
def test_a_run_is_named_after_its_last_config(words: list[str], name: str) -> None:
    Path("first.yaml").write_text("model:\n  mu: 0.1")
    Path("second.yaml").write_text("model:\n  mu: 0.2")
    assert main(["fit", *TINY, "--logs_dir=elsewhere", *words]) == 0
    assert [path.name for path in Path("elsewhere").iterdir()] == [name]
    assert Path(f"elsewhere/{name}/version_0/config.yaml").is_file()


def test_fit_then_test_then_predict(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *TINY]) == 0
    assert "run folder: logs/default/version_0" in capsys.readouterr().out
    assert main(["test", *TINY[1:], "--ckpt_path=best"]) == 0
    assert main(["predict", *TINY[1:], "--ckpt_path=last"]) == 0
    run = Path("logs/default/version_0")
    assert len(run.joinpath("predictions.csv").read_text().splitlines()) == 1001
    assert {path.name for path in run.iterdir()} >= {"test.json", "test_classes.csv", "test_clients.csv"}


def test_ctrl_c_during_imports_stops_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fedlit.cli.importlib.import_module", pressed)
    assert main(["fit"]) == 130


def test_python_m_fedlit_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "fedlit", "fti"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "fedlit: error: unknown command 'fti'; did you mean fit?\n"


# --- help ------------------------------------------------------------------------------------------------------------


def ours() -> Iterator[type]:
    yield from (FederatedLoop, FederatedModule)
    for package in (fedlit.data, fedlit.models, fedlit.attention, fedlit.engines):
        for name in package.__all__:
            member: Any = getattr(package, name)
            if isinstance(member, type):
                yield member


@pytest.mark.parametrize("part", list(ours()), ids=lambda part: part.__name__)
def test_every_argument_of_fedlit_is_explained(part: type) -> None:
    unexplained = [each.name for each in get_signature_parameters(part, None) if not each.doc]
    assert unexplained == []


@pytest.mark.parametrize("option", ["--help", "--help_all"])
def test_help_shows_the_explanations(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", option])
    assert stop.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for said in ("Size K of the cohort", "Strength of the proximal term", "Folder of all runs", "Name of the run"):
        assert said in shown


@pytest.mark.parametrize(
    ("gpu", "bf16", "accelerator", "expected"),
    [
        (False, False, "auto", "32-true"),
        (True, True, "auto", "bf16-mixed"),
        (True, False, "gpu", "16-mixed"),
        (True, True, "cpu", "32-true"),
    ],
)
def test_auto_precision_is_that_of_the_hardware(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, bf16: bool, accelerator: str, expected: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: bf16)
    assert best_precision(accelerator) == expected


def test_a_machine_with_apples_gpu_trains_on_its_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning.pytorch.accelerators.MPSAccelerator.is_available", lambda: True)
    trainer = Trainer(logger=False, enable_checkpointing=False)
    assert (trainer.strategy.root_device.type, trainer.precision) == ("cpu", "32-true")


def test_validate_shows_the_models_accuracy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TINY, f"--logs_dir={tmp_path}"]
    assert main(["fit", *words]) == 0
    capsys.readouterr()
    assert main(["validate", *words, "--ckpt_path=best"]) == 0
    assert "global/accuracy" in capsys.readouterr().out
