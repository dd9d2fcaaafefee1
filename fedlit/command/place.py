"""Where a run lives, and which checkpoint it goes on from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from fedlit.core.checkpoint import BrokenCheckpointError, read
from fedlit.core.errors import InputError
from fedlit.core.messages import warn
from fedlit.runs.folder import find_checkpoint, folder_name, newest_whole, plain_name, run_of, usable
from fedlit.runs.state import FolderLock, is_unused, lock_new


class Place:
    """The folder of a run, ``LOGS_DIR/NAME/version_N``, and its checkpoint, by the arguments of a command.

    Attributes:
        checkpoint: The file that is gone on from or tested; None for a new run.
        lock: That of the run's folder; None on ranks other than the first, and where nothing is
            written.
        finished_rounds: How many rounds the checkpoint holds.

    Args:
        name: The run's.
        section: The command's arguments ``logs_dir``, ``version``, ``ckpt_path`` and ``name``.
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        accept: Is called with the content of a checkpoint, and raises where the config cannot go on from it.

    Raises:
        InputError: When there is no such place or checkpoint, or it cannot be used.
    """

    def __init__(self, name: str, section: Any, command: str, accept: Callable[[dict[str, Any]], None]) -> None:
        self.checkpoint: Path | None = None
        self.lock: FolderLock | None = None
        self.finished_rounds = 0
        self._name, self._version, self._accept = plain_name(name), section.version, accept
        if section.version is not None:
            folder_name(section.version, "--version")
        usable(Path(section.logs_dir) / name, "--logs_dir or --name")
        self.logs = Path(section.logs_dir).resolve()  # from here on every path of a run has one form
        if section.ckpt_path in ("last", "best"):
            self.checkpoint = find_checkpoint(self.logs, name, section.ckpt_path, section.version)
        elif section.ckpt_path:
            self.checkpoint = Path(section.ckpt_path).resolve()
            if not self.checkpoint.is_file():
                raise InputError(f"no checkpoint file {section.ckpt_path!r}; use --ckpt_path last, best or a file")
        elif command != "fit":
            raise InputError(f"fedlit {command} needs a trained model: --ckpt_path best, last or a file")
        elif section.version and is_first_rank():
            _check_unused(self.logs / name / section.version)
        if command == "fit" and self.checkpoint and is_first_rank() and (run := run_of(self.checkpoint)):
            _check_place(run, section.name, section.version)
            self.lock = FolderLock(run)
        if self.checkpoint:
            self.finished_rounds = self._read_rounds(self.checkpoint, section.ckpt_path)

    def _read_rounds(self, checkpoint: Path, given: str) -> int:
        """How many rounds the checkpoint holds; a broken ``last`` is replaced by the newest whole one of the run.

        Raises:
            InputError: When it cannot be read, and another was not asked for or is not there.
        """
        try:
            return self._rounds_of(read(checkpoint))
        except BrokenCheckpointError as error:
            other = newest_whole(checkpoint.parent)
            if given != "last":
                raise InputError(f"{error}; {other[0]} is whole") if other else error from None
            if other is None:
                raise InputError(f"{error.reason}, nor is another of its run; start anew without --ckpt_path") from None
            self.checkpoint, _ = other
            rounds = self._rounds_of(read(self.checkpoint))
            warn(f"{error.reason}; going on after round {rounds} with {other[0]}")
            return rounds

    def _rounds_of(self, checkpoint: dict[str, Any]) -> int:
        self._accept(checkpoint)
        return int(checkpoint["global_step"])

    @property
    def goes_on(self) -> bool:
        """Whether the run is one that is there already."""
        return self.checkpoint is not None and run_of(self.checkpoint) is not None

    def locked(self) -> Path | None:
        """The folder that this process has locked, for a new run or the one that the checkpoint is of.

        All that is written of a run is written there. None on ranks other than the first, which write nothing.
        """
        if not self.goes_on and is_first_rank():
            self.lock = lock_new(self.logs / self._name, self._version)
            _check_unused(self.lock.folder)  # again: another may have just ended there
        return self.lock.folder.resolve() if self.lock else None

    @property
    def results(self) -> Path:
        """Where results of a checkpoint go: its run's folder, else the current one."""
        assert self.checkpoint is not None
        return run_of(self.checkpoint) or Path()

    def release(self) -> None:
        """Give the folder back."""
        if self.lock is not None:
            self.lock.release()


def is_first_rank() -> bool:
    """Whether this process is the one that writes."""
    return bool(getattr(rank_zero_only, "rank", 0) == 0)


def _check_unused(folder: Path) -> None:
    """Refuse a new run where there is one."""
    if not is_unused(folder):
        raise InputError(f"there is a run in {folder}; go on with it by --ckpt_path last, or give another --version")


def _check_place(run: Path, name: str | None, version: str | None) -> None:
    """Refuse another place for a run that goes on."""
    for option, given, has in (("--name", name, run.parent.name), ("--version", version, run.name)):
        if given not in (None, has):
            raise InputError(
                f"{option} is {given}, but the checkpoint is of the run {run}, which goes on where it is; leave "
                f"{option} out, or copy the file out of its folder to begin a new run from it"
            )
