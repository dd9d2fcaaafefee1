"""YAML is read strictly wherever it stands: in a config, in a part of one, or on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlit.cli import main

DATA = "class_path: fedlit.data.MNIST5k\ninit_args:\n  num_clients: 5\n"
NET = "class_path: fedlit.models.MLP\ninit_args:\n  hidden: [5]\n"

#: Words after ``fedlit fit``, in which FILE is a file of the text, and the key in the text that is given twice.
TWICE = {
    "file of a class": ("--data FILE", f"{DATA}  num_clients: 6\n", "num_clients"),
    "file of a class within": ("--model.net FILE", f"{NET}  hidden: [6]\n", "hidden"),
    "file of a section": ("--federation FILE", "clients_per_round: 2\nclients_per_round: 3\n", "clients_per_round"),
    "file of the callbacks": (
        "--trainer.callbacks FILE",
        "- class_path: ClientAccuracy\n  init_args: {every: 2, every: 3}\n",
        "every",
    ),
    "file in a config": ("--config config.yaml", f"{DATA}  num_clients: 6\n", "num_clients"),
    "class on the command line": (
        "--data.partition TEXT",
        "{class_path: Dirichlet, init_args: {alpha: 1, alpha: 2}}",
        "alpha",
    ),
    "mapping on the command line": (
        "--model.mu MuByName --model.mu.names TEXT",
        "{attention: 1, attention: 2}",
        "attention",
    ),
    "config on the command line": ("--config TEXT", "{seed_everything: 3, seed_everything: 4}", "seed_everything"),
}


@pytest.mark.parametrize("case", TWICE)
def test_a_key_that_is_given_twice_is_refused_wherever_it_stands(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words, text, key = TWICE[case]
    Path("part.yaml").write_text(text)
    Path("config.yaml").write_text("data: part.yaml\n")
    given = [{"FILE": "part.yaml", "TEXT": text}.get(word, word) for word in words.split()]
    assert main(["fit", *given, "--print_config"]) == 2
    assert f"{key} is given 2 times in the mapping at line" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: null", "model must not be null; leave it out for the default"),
        ("{model: {mu: 0.1}, model.mu: 0.2}", "model.mu is given 2 times, with dots and without"),
        ("config: other.yaml", "a config cannot include another one, got other.yaml"),
    ],
)
def test_a_config_on_the_command_line_is_checked_like_a_file(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", text, "--print_config"]) == 2
    assert said in capsys.readouterr().err
