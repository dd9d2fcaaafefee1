"""What has become of a run: its last words in ``run.json``, and a lock that ends with the process that trains it."""

from __future__ import annotations

import json
import os
import sys
import time
import weakref
from pathlib import Path
from typing import Any, Literal

from fedlit.errors import InputError
from fedlit.files import replacing

if sys.platform != "win32":
    import fcntl

STATE = "run.json"
LOCK = "run.lock"
WAIT_SECONDS = 5.0  # for a process that is being killed

State = Literal["running", "finished", "interrupted", "failed"]


class Claim:
    """The right to write into a folder, held by one process at a time.

    The system takes it back when the process ends, however it ends, and forked workers do not inherit it. Windows has
    no such lock: there nothing is refused.

    Args:
        folder: Made if it is not there.

    Raises:
        InputError: When another process holds it and goes on holding it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        self._close = weakref.finalize(self, os.close, file)
        deadline = time.monotonic() + WAIT_SECONDS
        while not _locked(file):
            if time.monotonic() > deadline:
                self.release()
                raise InputError(f"another process is at work in {folder}; wait for its end or stop it")
            time.sleep(0.05)

    def release(self) -> None:
        """Give it back; once is enough."""
        self._close()


def _locked(file: int) -> bool:
    if sys.platform != "win32":
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def held(folder: Path) -> bool:
    """Whether another process holds the claim on a folder."""
    if sys.platform == "win32":
        return False
    try:
        file = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def record(run: Path, state: State, asked: int | None, error: str = "") -> None:
    """Write ``run.json`` in one move.

    Args:
        run: The run's folder.
        state: What it is now.
        asked: Rounds that it was to make.
        error: What it failed of.
    """
    with replacing(run / STATE) as file:
        file.write(json.dumps({"state": state, "rounds": asked, "error": error}) + "\n")


def recorded(run: Path) -> dict[str, Any]:
    """What `record` wrote: ``state``, ``rounds`` and ``error``; empty for a run without it."""
    try:
        return dict(json.loads((run / STATE).read_text()))
    except (OSError, ValueError):
        return {}
