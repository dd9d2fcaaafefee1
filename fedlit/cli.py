"""The command line: ``fit``, ``validate``, ``test``, ``predict`` a run; ``study``, ``report``, ``runs``, ``sites``."""

from __future__ import annotations

import importlib
import platform
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch.cli import ArgsType

#: The commands that run a method of the Trainer, and what they do.
RUN = {
    "fit": "Train a federation, or resume a stopped run.",
    "validate": "Evaluate a checkpoint on the validation data.",
    "test": "Evaluate a checkpoint on the test set: overall, by class and by client.",
    "predict": "Write a checkpoint's predictions for the test set.",
}
#: The other commands, the modules whose ``main`` runs them, and what they do.
OURS = {
    "study": ("fedlit.study.command", "Run every combination of a study file's axes at every seed."),
    "report": ("fedlit.report.command", "Turn a study's runs into tables, curves, tests and verdicts."),
    "verify": ("fedlit.study.verify", "Kill and resume a short run of a config, and compare the bits."),
    "sites": ("fedlit.flower.command", "Write a project that trains real sites over Flower."),
    "watch": ("fedlit.study.watch", "Watch all runs under a folder as they train."),
    "runs": ("fedlit.study.listing", "List all runs under a folder: progress, accuracy, and how to resume."),
    "export": ("fedlit.command.export", "Write a checkpoint's network as safetensors, ONNX or a PyTorch program."),
    "configs": ("fedlit.command.configs", "List the configs that come with fedlit, or copy them."),
}

EXAMPLES = """\
  fedlit fit --config configs/quickstart.yaml    train on bundled digits, 35 s
  tensorboard --logdir logs                      view the curves
  fedlit fit --help                              the settings; --help_all has all of the Trainer's too"""


def main(args: ArgsType = None) -> int:
    """Run a command. A mistake in the input prints one line to stderr, any other error its traceback and one line.

    Without a command, and with ``--help`` or ``--version``, no library is loaded.

    Returns:
        0 for success, 1 if another rank was lost, a run of a study failed or a resumed run differs, 2 for a mistake in
        the input, 3 for any other error, 130 after Ctrl-C, 143 after SIGTERM.
    """
    words = [str(word) for word in args] if isinstance(args, list) else sys.argv[1:]
    does = {**RUN, **{name: text for name, (_, text) in OURS.items()}}
    first = words[0] if words else "--help"
    if first in ("-h", "--help", "--version"):
        sys.stdout.write(versions() if first == "--version" else overview(does))
        return 0
    try:
        dispatch = importlib.import_module("fedlit.command.dispatch").dispatch
    except KeyboardInterrupt:  # these imports take some seconds
        return 130
    return int(dispatch(args, does, {name: module for name, (module, _) in OURS.items()}))


def overview(does: dict[str, str]) -> str:
    """What ``fedlit`` without a command prints: the commands, and how to start."""
    lines = (f"  {name:10}{text}" for name, text in does.items())
    return "\n".join(
        [
            "usage: fedlit COMMAND [--OPTION VALUE ...]",
            "",
            "Federated learning as a Lightning training run.",
            "",
            *lines,
            "",
            "fedlit COMMAND --help explains a command; fedlit --version prints the versions.",
            "",
            EXAMPLES,
            "",
        ]
    )


def versions() -> str:
    """The versions that results depend on."""
    found = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "numpy"))
    return f"fedlit {version('fedlit')} ({found}, Python {platform.python_version()})\n"
