"""A run's state: ``run.json`` says how it ended, and a lock on its folder is held while a process trains it."""

from __future__ import annotations

import json
import os
import sys
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

from fedlit.core.errors import InputError
from fedlit.core.files import atomic_write, read_object, require_regular
from fedlit.runs.folder import LOCK, STATE, versions

if sys.platform != "win32":
    import fcntl

MOST_TRIES = 1000  # to make a new folder, if other processes are faster
WAIT_SECONDS = 5.0  # for a process that is ending

RunState = Literal["running", "finished", "interrupted", "failed"]
STATES = get_args(RunState)


class FolderLock:
    """The right to write into a folder, held by one process at a time.

    The system releases it when the process ends, however it ends, and forked workers do not inherit it. Windows has no
    such lock: there every process gets it.

    Args:
        folder: Made if it does not exist; what was made, and is still empty when the lock is released, is removed.
        new: Whether the folder must not exist yet.

    Raises:
        FileExistsError: When it exists and must not.
        InputError: When another process holds it for longer than ``WAIT_SECONDS``.
    """

    def __init__(self, folder: Path, new: bool = False) -> None:
        self.folder = folder
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=not new)
        deadline = time.monotonic() + WAIT_SECONDS
        while (file := _held_lock(folder)) is None:
            if time.monotonic() > deadline:
                raise InputError(f"another process is using {folder}; wait until it ends, or stop it")
            time.sleep(0.05)
        self._close = weakref.finalize(self, _give_back, file, folder, made)

    def release(self) -> None:
        """Release the lock; calling it again does nothing."""
        self._close()


def lock_new(runs: Path, version: str | None) -> FolderLock:
    """The lock of a new run's folder; two processes that ask at the same time get different folders.

    Args:
        runs: The folder of all runs of its name.
        version: The folder's name; None is ``version_N`` with the next free number.

    Raises:
        InputError: If another process uses the named folder, or no folder can be made.
    """
    if version is not None:
        return FolderLock(runs / version)
    for _ in range(MOST_TRIES):
        number = max((int(path.name.removeprefix("version_")) for path in versions(runs.parent, runs.name)), default=-1)
        with suppress(FileExistsError):  # another process was faster: try the next number
            return FolderLock(runs / f"version_{number + 1}", new=True)
    raise InputError(f"no new folder can be made in {runs}; give another --logs_dir or --name")


def is_unused(folder: Path) -> bool:
    """Whether a folder holds nothing of a run."""
    return not folder.is_dir() or all(path.name == LOCK for path in folder.iterdir())


def _held_lock(folder: Path) -> int | None:
    """The lock file, open and locked; None while another process holds it."""
    try:
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except FileNotFoundError:  # the process that held the folder has just removed it
        folder.mkdir(parents=True, exist_ok=True)
        return None
    if _locked(file) and os.fstat(file).st_nlink:
        return file
    os.close(file)
    return None


def _give_back(file: int, folder: Path, made: list[Path]) -> None:
    """Remove the folders of a run that did not start, then release the lock."""
    with suppress(OSError):
        if made and is_unused(folder):
            (folder / LOCK).unlink()
            for path in made:
                path.rmdir()
    os.close(file)


def _locked(file: int) -> bool:
    if sys.platform != "win32":
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def held(folder: Path) -> bool:
    """Whether another process holds the lock of a folder."""
    if sys.platform == "win32":
        return False
    try:
        file = os.open(require_regular(folder / LOCK), os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def record(run: Path, state: RunState, asked: int | None, error: str = "") -> None:
    """Write ``run.json``, atomically.

    Args:
        run: The run's folder.
        state: Its present state.
        asked: The number of rounds that it is to train.
        error: The error with which it failed.
    """
    with atomic_write(run / STATE) as file:
        file.write(json.dumps({"state": state, "rounds": asked, "error": error}) + "\n")


def recorded(run: Path) -> dict[str, Any]:
    """The content of ``run.json``: ``state``, ``rounds`` and ``error``; empty for a run without the file.

    Raises:
        InputError: If the file holds something else.
    """
    said = read_object(run / STATE)
    kinds = {"rounds": int | None, "error": str}
    odd = any(key in said and not isinstance(said[key], kind) for key, kind in kinds.items())
    if odd or said.get("state", STATES[0]) not in STATES:
        raise InputError(f"{run / STATE} is not a record of a run that fedlit wrote; remove it")
    return said
