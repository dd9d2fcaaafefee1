"""Runs a command and reports its errors."""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch.cli import ArgsType

from fedlit.command.exits import DONE, describe, status_of
from fedlit.command.fit import FedlitCLI
from fedlit.core.files import quiet_threads
from fedlit.runs.stop import sigterm_is_ctrl_c


def dispatch(args: ArgsType, does: Mapping[str, str], modules: Mapping[str, str]) -> int:
    """Run a command. A mistake in the input prints one line to stderr, any other error its traceback and one line.

    Args:
        args: The arguments after ``fedlit``; None takes those of the process.
        does: What each command does, by its name.
        modules: For each command that does not run a method of the Trainer, the module whose ``main`` runs it.

    Returns:
        See `fedlit.cli.main`.
    """
    if not {"", here := str(Path.cwd())} & set(sys.path):
        sys.path.append(here)  # for the user's own classes, as with python -m; in last place it hides no other module
    warnings.filterwarnings("ignore", module=r"lightning\.")  # they concern Lightning's developers
    for noisy in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        words = [str(word) for word in args] if isinstance(args, list) else sys.argv[1:]
        with sigterm_is_ctrl_c():
            if words and words[0] in modules:
                return int(importlib.import_module(modules[words[0]]).main(words[1:]))
            with quiet_threads():
                FedlitCLI(args, does=does)
    except Exception as error:
        status, text = describe(error)
        sys.stderr.write(f"{text}\n")
        return status
    except (KeyboardInterrupt, SystemExit) as stop:
        stopped = status_of(stop) or status_of(stop.__context__)  # Lightning turns Ctrl-C into an exit of status 1
        if stopped is None:
            raise
        return stopped
    return DONE
