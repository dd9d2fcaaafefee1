"""The command line: ``fit``, ``validate``, ``test``, ``predict`` a run; ``study``, ``report``, ``runs``, ``sites``."""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from pathlib import Path

from lightning.pytorch.cli import ArgsType

from fedlit.command.exits import DONE, status_of, told
from fedlit.command.fit import FedlitCLI
from fedlit.core.files import quiet_threads
from fedlit.runs.stop import sigterm_is_ctrl_c

#: Commands that are no method of a Trainer's, the modules whose ``main`` they are, and what they do.
OURS = {
    "study": ("fedlit.study.command", "Run every combination of a study file's axes at every seed."),
    "report": ("fedlit.report.command", "Turn a study's runs into tables, curves, tests and verdicts."),
    "verify": ("fedlit.study.verify", "Stop and resume a short run of a config: does it end with the same bits?"),
    "sites": ("fedlit.flower.command", "Write a project that trains real sites over Flower."),
    "runs": ("fedlit.study.listing", "Show all runs under a folder: how far, how good, and how to go on."),
    "export": ("fedlit.command.export", "Write a checkpoint's network as safetensors, ONNX or a PyTorch program."),
    "configs": ("fedlit.command.configs", "List the configs that come with fedlit, or copy them."),
}


def main(args: ArgsType = None) -> int:
    """Run a command; a mistake of the user's is one line on stderr, any other error its traceback and one line.

    Returns:
        0 when done, 1 when another rank was lost, a run of a study failed or a resumed run differs, 2 for a mistake in
        the input, 3 for any other error, 130 when stopped by Ctrl-C, 143 by SIGTERM.
    """
    if not {"", here := str(Path.cwd())} & set(sys.path):
        sys.path.append(here)  # classes of a config's own, as with python -m; last, it shadows no other module
    warnings.filterwarnings("ignore", module=r"lightning\.")  # what Lightning would tell its own developers
    for noisy in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        words = [str(word) for word in args] if isinstance(args, list) else sys.argv[1:]
        if words and words[0] in OURS:
            return int(importlib.import_module(OURS[words[0]][0]).main(words[1:]))
        with sigterm_is_ctrl_c(), quiet_threads():
            FedlitCLI(args, others={name: does for name, (_, does) in OURS.items()})
    except Exception as error:
        status, text = told(error)
        sys.stderr.write(f"{text}\n")
        return status
    except (KeyboardInterrupt, SystemExit) as stop:
        stopped = status_of(stop) or status_of(stop.__context__)  # Lightning turns Ctrl-C into an exit of status 1
        if stopped is None:
            raise
        return stopped
    return DONE
