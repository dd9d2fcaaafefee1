"""Help: a page with all of fedlit's classes, and full help on one option or class."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch

import fedlit.algorithms
import fedlit.attention
import fedlit.engines
import fedlit.models
from fedlit.algorithms import Algorithm
from fedlit.cli import OURS, RUN, main
from fedlit.command.classes import summary
from fedlit.data import EMNIST, Dirichlet, FederatedData, Partitioner, Shards
from fedlit.engines import Engine

COMMANDS = ("fit", "validate", "test", "predict")


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def helped(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The help text."""
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    assert stop.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_a_page_of_less_than_200_lines_of_80_columns(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = helped(f"{command} --help", capsys).splitlines()
    assert len(lines) < 200
    assert max(map(len, lines)) <= 80
    assert RUN[command] in " ".join(lines)


def test_fedlits_options_come_first_and_the_trainers_last(capsys: pytest.CaptureFixture[str]) -> None:
    shown = helped("fit --help", capsys)
    options = re.findall(r"^  (?:-c, )?--([a-z]+)", shown, re.MULTILINE)
    assert list(dict.fromkeys(options))[-4:] == ["data", "model", "federation", "trainer"]
    assert "--trainer.log_every_n_steps" not in shown
    assert "--trainer.log_every_n_steps" in helped("fit --help_all", capsys)


def of(package: object, base: type) -> set[str]:
    """The names of the classes of a kind that a package offers."""
    every = {name: getattr(package, name) for name in package.__all__}  # type: ignore[attr-defined]
    return {n for n, each in every.items() if isinstance(each, type) and issubclass(each, base) and each is not base}


def test_every_class_of_fedlit_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    shown = helped("fit --help", capsys)  # with their package where another class of that name has been imported
    named = set(re.findall(r"^ {6}(?:fedlit\.\w+\.)?(\w+)(?: +\S|$)", shown, re.MULTILINE))
    assert named >= of(fedlit.algorithms, Algorithm)
    assert named >= of(fedlit.attention, torch.nn.Module)
    assert named >= of(fedlit.models, torch.nn.Module)
    assert named >= of(fedlit.data, FederatedData) | of(fedlit.data, Partitioner)
    assert named >= of(fedlit.engines, Engine)
    assert named >= {"AdaptiveMu", "Cosine", "PartialWork", "SizeSampling", "FedAdam"}


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("--model.net.attention.help", of(fedlit.attention, torch.nn.Module)),
        ("--model.net fedlit.models.MLP --model.net.help", of(fedlit.models, torch.nn.Module)),
        ("--data.partition.help", of(fedlit.data, Partitioner)),
        ("--data EMNIST --data.split.help", {"byclass", "mnist"}),
        ("--model.server_optimizer.help", {"torch.optim.Adam", "FedYogi"}),
        ("--trainer.callbacks.help", {"fedlit.runs.ClientAccuracy", "lightning.pytorch.callbacks.EarlyStopping"}),
    ],
)
def test_help_of_an_option_lists_its_classes(words: str, names: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    shown = helped(f"fit {words}", capsys)
    assert len(re.findall("^  --", shown, re.MULTILINE)) == 1  # of no other option
    assert not {name for name in names if name not in shown}


@pytest.mark.parametrize("option", ["callbacks", "logger"])
def test_help_does_not_list_what_a_run_adds_by_itself(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    listed = re.findall(r"fedlit\.[\w.]+", helped(f"fit --trainer.{option}.help", capsys))
    assert set(listed) <= {"fedlit.runs.ClientAccuracy", "fedlit.runs.AttentionFilm"}


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ("--data.partition.help Dirichlet", "--data.partition.alpha X"),
        ("--data.partition.help=fedlit.data.Dirichlet", "--data.partition.min_samples N"),
        ("--model.net.attention.help Spatial", "--model.net.attention.norm none|group|batch"),
        ("--data.partition Shards --data.partition.classes_per_client.help", "--data.partition.classes_per_client N"),
        ("--model.client_optimizer.help torch.optim.SGD", "--model.client_optimizer.lr X"),
        ("--model.net.help torchvision.models.resnet18", "--model.net.progress true|false"),
    ],
)
def test_help_of_a_class_explains_its_options(words: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert option in helped(f"fit {words}", capsys)


def test_arguments_with_which_an_attention_is_called_are_not_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert "channels" not in re.findall(r"--[\w.]+\.(\w+)", helped("fit --model.net.attention.help Spatial", capsys))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--model.net.atention.help", "--model.net.atention.help: no such option; did you mean model.net.attention?"),
        ("--data.partition.help Dirichlt", "no class Dirichlt; did you mean Dirichlet?"),
        ("--data.partition.alpha.help", "no such option, as data.partition is not a class"),
        ("--modl.help", "no such option; did you mean model"),
    ],
)
def test_help_on_an_unknown_option_is_one_line(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *words.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("made", "width", "said"),
    [
        (
            Dirichlet,
            200,
            "Label skew: each class is divided over the clients in proportions drawn from Dir(alpha, ..., alpha)",
        ),
        (EMNIST, 60, "Handwritten digits and letters, 28 x 28 grey pixels"),
        (EMNIST, 40, "Handwritten digits and letters"),
        (Shards, 30, "Pathological label skew"),
    ],
)
def test_a_summary_has_as_many_clauses_as_fit(made: type, width: int, said: str) -> None:
    assert summary(made, width) == [said]


def test_a_summary_has_no_references_and_wraps_text_without_clauses() -> None:
    class Krum:
        """The client that is nearest (Blanchard et al. 2017, Section 4) to its neighbours."""

    assert summary(Krum, 30) == ["The client that is nearest to", "its neighbours"]


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_fedlit_without_a_command_lists_its_commands(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert re.findall(r"^  (\w+)  +[A-Z]", shown, re.MULTILINE) == [*RUN, *OURS]


def test_commands_and_versions_are_shown_without_loading_torch() -> None:
    code = "import sys; from fedlit.cli import main; main(['--version']); main([]); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.match(r"fedlit [\d.]+ \(torch 2\.\d+\S*, lightning ", done.stdout)
