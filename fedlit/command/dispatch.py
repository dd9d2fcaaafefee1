"""Runs a command, and says what went wrong in it."""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch.cli import ArgsType

from fedlit.command.exits import DONE, status_of, told
from fedlit.command.fit import FedlitCLI
from fedlit.core.files import quiet_threads
from fedlit.runs.stop import sigterm_is_ctrl_c


def dispatch(args: ArgsType, does: Mapping[str, str], modules: Mapping[str, str]) -> int:
    """Run a command; a mistake of the user's is one line on stderr, any other error its traceback and one line.

    Args:
        args: The words after ``fedlit``; None are the process's.
        does: What each command does, by its name.
        modules: Of commands that are no method of a Trainer's the modules whose ``main`` they are.

    Returns:
        See `fedlit.cli.main`.
    """
    if not {"", here := str(Path.cwd())} & set(sys.path):
        sys.path.append(here)  # classes of a config's own, as with python -m; last, it shadows no other module
    warnings.filterwarnings("ignore", module=r"lightning\.")  # what Lightning would tell its own developers
    for noisy in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        words = [str(word) for word in args] if isinstance(args, list) else sys.argv[1:]
        if words and words[0] in modules:
            return int(importlib.import_module(modules[words[0]]).main(words[1:]))
        with sigterm_is_ctrl_c(), quiet_threads():
            FedlitCLI(args, does=does)
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
