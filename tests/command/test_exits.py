"""How a command ends: exit status, message and traceback for each kind of error."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from fedlit.cli import main
from fedlit.command.blame import owner_of
from fedlit.command.exits import FAULT, MISTAKE
from fedlit.federated import FederatedLoop

TINY = (
    "fit --trainer.max_epochs=1 --trainer.accelerator=cpu --federation.clients_per_round=2 "
    "--federation.local_epochs=0.1 --federation.engine=LoopEngine --trainer.enable_progress_bar=false"
).split()
NET = ["--model.net=fedlit.models.MLP", "--model.net.hidden=[4]"]

#: A module of a user's.
MINE = """
import torch
from torch import nn
import fedlit
from fedlit.federated import Mu

class Odd(nn.Module):
    def __init__(self, num_classes: int = 10):
        super().__init__()
        raise ValueError("hidden must be even")

class Lacks(Odd):
    def __init__(self, num_classes: int = 10):
        None.hidden

class Late(nn.Module):
    def __init__(self, num_classes: int = 10):
        super().__init__()
        self.layer = nn.Linear(784, num_classes)

    def forward(self, x):
        return {}["nothing"] if self.training else self.layer(x.flatten(1))

class Below(nn.Module):
    def __init__(self, num_classes: int = 10):
        super().__init__()
        torch.zeros(2) @ torch.zeros(3)

class Rule(Mu):
    def __init__(self, start: float = 1.0):
        1 / 0

    def value(self):
        return 0.0

class Unfinished(Mu):
    pass

class Careful(nn.Module):
    def __init__(self, num_classes: int = 10, width: int = 3):
        raise fedlit.InputError(f"width must be even, got {width}; use 4")

CALLS = []

class Tired(Late):
    def forward(self, x):
        CALLS.append(x)
        if self.training and len(CALLS) > 20:
            raise LookupError("no more")
        return self.layer(x.flatten(1))
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fedlit"])
    sys.modules.pop("mine", None)
    Path("mine.py").write_text(MINE)
    Path("wrong.py").write_text("class Net(:")
    Path("table.py").write_text("raise ValueError('bad table')")
    Path("table.yaml").write_text("model: {net: {class_path: table.Net}}")


# --- the user's own code: the traceback, and where to look -----------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "file", "said"),
    [
        ("--model.net=mine.Odd", "mine.py, line 10", "ValueError: hidden must be even"),
        ("--model.net=mine.Lacks", "mine.py, line 14", "AttributeError: 'NoneType' object has no attribute 'hidden'"),
        ("--model.net=mine.Late", "mine.py, line 22", "KeyError: 'nothing'"),
        ("--model.net=mine.Below", "mine.py, line 27", "RuntimeError: inconsistent tensor size"),
        ("--model.mu=mine.Rule", "mine.py, line 31", "ZeroDivisionError: division by zero"),
        ("--model.net=wrong.Net", "wrong.py, line 1", "SyntaxError"),
        ("--model.net=table.Net", "table.py, line 1", "ValueError: bad table"),
        ("--config=table.yaml", "table.py, line 1", "ValueError: bad table"),
    ],
)
def test_an_error_in_the_users_code_is_shown_with_its_traceback_and_place(
    words: str, file: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TINY, *words.split()]) == FAULT
    err = capsys.readouterr().err
    assert "Traceback (most recent call last):" in err
    last = err.splitlines()[-1]
    assert last.startswith("fedlit: error in ")
    assert f"{file}: {said}" in last
    assert "internal" not in last


def test_an_error_in_a_clients_fit_is_shown_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--federation.local_epochs=20", "--model.net=mine.Tired"]) == FAULT
    err = capsys.readouterr().err
    assert "2 of 2 fits of round 1 failed (client " in err
    assert "correct the cause of the failures" in err
    assert f'{Path("mine.py").resolve()}", line 49, in forward' in err
    assert err.splitlines()[-1] == "LookupError: no more"
    assert "internal" not in err


# --- a library's refusal, and a user's mistake: one line -------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--trainer.callbacks=EarlyStopping --trainer.callbacks.monitor=x --trainer.callbacks.mode=bad",
            "EarlyStopping: `mode` can be min, max, got bad; correct its arguments",
        ),
        ("--trainer.callbacks=EarlyStopping", "trainer.callbacks.monitor must be given"),
        ("--trainer.strategy=fast", "trainer: You selected an invalid strategy name: `strategy='fast'`"),
        ("--model.mu=mine.Unfinished", "model.mu: mine.Unfinished is abstract; give a class that defines all"),
        ("--model.net=mine.Careful", "width must be even, got 3; use 4"),
        ("--model.net=mine.Nothing", "model.net: mine has no Nothing"),
    ],
)
def test_an_error_of_a_library_or_class_is_one_line(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, *words.split()]) == MISTAKE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fedlit: error: {said}")


# --- neither the input nor the user's code ---------------------------------------------------------------------------


def test_an_error_in_fedlit_is_reported_as_internal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = compile(
        "def broken(*args, **kwargs):\n    raise ZeroDivisionError('in\\x1b[2J vain')", ours("loop.py"), "exec"
    )
    names: dict[str, object] = {}
    exec(code, names)
    monkeypatch.setattr(FederatedLoop, "setup", names["broken"])
    assert main([*TINY, *NET]) == FAULT
    err = capsys.readouterr().err
    assert "Traceback (most recent call last):" in err
    assert "\x1b" not in err  # what steers a terminal is shown, not obeyed
    last = err.splitlines()[-1]
    assert last.startswith(f"fedlit: internal error in {ours('loop.py')}, line 2: ZeroDivisionError: in\\x1b[2J vain;")
    assert "please report this" in last


def test_an_error_in_a_library_called_by_fedlit_is_internal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FederatedLoop, "setup", torch_fails())
    assert main([*TINY, *NET]) == FAULT
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("fedlit: internal error in ")
    assert torch.__file__.removesuffix("__init__.py") in last
    assert "Error: " in last
    assert "please report this" in last


def ours(name: str) -> str:
    return str(Path(sys.modules["fedlit.federated"].__path__[0]) / name)


def torch_fails() -> object:
    """A function of this file in which a Python function of PyTorch raises."""
    text = (
        "def fails(*args, **kwargs):\n    torch.nn.functional.cross_entropy(torch.zeros(2, 3), torch.zeros(5).long())"
    )
    names: dict[str, object] = {"torch": torch}
    exec(compile(text, ours("loop.py"), "exec"), names)
    return names["fails"]


@pytest.mark.parametrize(
    ("file", "owner"),
    [
        ("/home/me/project/nets.py", "user"),
        ("/home/me/.local/lib/python3.12/site-packages/torch/nn/modules/linear.py", "library"),  # pip install --user
        ("/usr/lib/python3/dist-packages/yaml/__init__.py", "library"),  # what a virtual environment is based on
        ("<string>", "library"),
    ],
)
def test_the_owner_of_code_follows_from_its_path(file: str, owner: str) -> None:
    assert owner_of(file) == owner


def test_packages_in_a_folder_of_the_import_path_are_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after ``pip install --target``; the code beside a user's script is the user's."""
    for folder in ("libraries", "mine"):
        monkeypatch.syspath_prepend(tmp_path / folder)
    record = tmp_path / "libraries" / "yaml-6.0.dist-info" / "RECORD"
    record.parent.mkdir(parents=True)
    record.touch()
    assert owner_of(str(tmp_path / "libraries" / "yaml" / "loader.py")) == "library"
    assert owner_of(str(tmp_path / "mine" / "nets.py")) == "user"
