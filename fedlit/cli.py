"""The command line: ``fit``, ``validate``, ``test``, ``predict`` a run; ``study``, ``report``, ``runs``, ``sites``."""

from __future__ import annotations

import importlib
import platform
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch.cli import ArgsType

#: What the commands do that are methods of a Trainer's.
RUN = {
    "fit": "Train a federation, or go on with a run that was stopped.",
    "validate": "Evaluate a checkpoint on what each round is validated on.",
    "test": "Evaluate a checkpoint on the test set: in all, by class and by client.",
    "predict": "Write what a checkpoint predicts for the test set.",
}
#: The other commands, the modules whose ``main`` they are, and what they do.
OURS = {
    "study": ("fedlit.study.command", "Run every combination of a study file's axes at every seed."),
    "report": ("fedlit.report.command", "Turn a study's runs into tables, curves, tests and verdicts."),
    "verify": ("fedlit.study.verify", "Stop and resume a short run of a config: does it end with the same bits?"),
    "sites": ("fedlit.flower.command", "Write a project that trains real sites over Flower."),
    "watch": ("fedlit.study.watch", "Watch all runs under a folder as they train."),
    "runs": ("fedlit.study.listing", "Show all runs under a folder: how far, how good, and how to go on."),
    "export": ("fedlit.command.export", "Write a checkpoint's network as safetensors, ONNX or a PyTorch program."),
    "configs": ("fedlit.command.configs", "List the configs that come with fedlit, or copy them."),
}

EXAMPLES = """\
  fedlit fit --config configs/quickstart.yaml    train on digits that come along, 35 s
  tensorboard --logdir logs                      look at it
  fedlit fit --help                              what can be set"""


def main(args: ArgsType = None) -> int:
    """Run a command; a mistake of the user's is one line on stderr, any other error its traceback and one line.

    Without a command, and with ``--help`` or ``--version``, nothing else is loaded.

    Returns:
        0 when done, 1 when another rank was lost, a run of a study failed or a resumed run differs, 2 for a mistake in
        the input, 3 for any other error, 130 when stopped by Ctrl-C, 143 by SIGTERM.
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
    """What ``fedlit`` says by itself: its commands, and where to begin."""
    lines = (f"  {name:10}{text}" for name, text in does.items())
    return "\n".join(
        [
            "usage: fedlit COMMAND [--OPTION VALUE ...]",
            "",
            "Federated learning as a Lightning training run.",
            "",
            *lines,
            "",
            "fedlit COMMAND --help explains a command; fedlit --version says which versions run.",
            "",
            EXAMPLES,
            "",
        ]
    )


def versions() -> str:
    """Those that results depend on."""
    found = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "numpy"))
    return f"fedlit {version('fedlit')} ({found}, Python {platform.python_version()})\n"
