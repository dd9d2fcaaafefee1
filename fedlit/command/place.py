"""The folder of a run, and the checkpoint that it resumes from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from fedlit.core.checkpoint import BrokenCheckpointError, read
from fedlit.core.errors import InputError
from fedlit.core.messages import warn
from fedlit.runs.folder import find_checkpoint, folder_name, newest_intact, plain_name, run_of, usable
from fedlit.runs.state import FolderLock, is_unused, lock_new


class Place:
    """The folder of a run, ``LOGS_DIR/NAME/version_N``, and its checkpoint, from the arguments of a command.

    Attributes:
        checkpoint: The file that is resumed or evaluated; None for a new run.
        lock: The lock of the run's folder; None on ranks other than the first, and if nothing is written.
        finished_rounds: How many rounds the checkpoint holds.

    Args:
        name: The run's name.
        section: The command's arguments ``logs_dir``, ``version``, ``ckpt_path`` and ``name``.
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        accept: Is called with the content of a checkpoint, and raises if the config cannot resume it.

    Raises:
        InputError: If the folder or checkpoint does not exist or cannot be used.
    """

    def __init__(self, name: str, section: Any, command: str, accept: Callable[[dict[str, Any]], None]) -> None:
        self.checkpoint: Path | None = None
        self.lock: FolderLock | None = None
        self.finished_rounds = 0
        self._name, self._version, self._accept = plain_name(name), section.version, accept
        if section.version is not None:
            folder_name(section.version, "--version")
        usable(Path(section.logs_dir) / name, "--logs_dir or --name")
        self.logs = Path(section.logs_dir).resolve()  # all paths of a run are absolute and without links
        if section.ckpt_path in ("last", "best"):
            self.checkpoint = find_checkpoint(self.logs, name, section.ckpt_path, section.version)
        elif section.ckpt_path:
            self.checkpoint = Path(section.ckpt_path).resolve()
            if not self.checkpoint.is_file():
                raise InputError(
                    f"there is no checkpoint file {section.ckpt_path!r}; use --ckpt_path last, best or a file"
                )
        elif command != "fit":
            raise InputError(f"fedlit {command} needs a trained model; give --ckpt_path best, last or a file")
        elif section.version and is_first_rank():
            _check_unused(self.logs / name / section.version)
        if self.checkpoint and is_first_rank() and (run := run_of(self.checkpoint)):
            if command == "fit" or section.ckpt_path not in ("last", "best"):  # else it was found by name and version
                check_place(run, section.name, section.version, command)
            if command == "fit":
                self.lock = FolderLock(run)
        if self.checkpoint:
            self.finished_rounds = self._read_rounds(self.checkpoint, section.ckpt_path)

    def _read_rounds(self, checkpoint: Path, given: str) -> int:
        """How many rounds the checkpoint holds. A damaged ``last`` is replaced by the newest intact one of the run.

        Raises:
            InputError: If it cannot be read and cannot be replaced.
        """
        try:
            return self._rounds_of(read(checkpoint))
        except BrokenCheckpointError as error:
            other = newest_intact(checkpoint.parent)
            if given != "last":
                raise InputError(f"{error}; {other[0]} is intact") if other else error from None
            if other is None:
                raise InputError(
                    f"{error.reason}, and the run has no other intact checkpoint; start a new run without --ckpt_path"
                ) from None
            self.checkpoint, _ = other
            rounds = self._rounds_of(read(self.checkpoint))
            warn(f"{error.reason}; resuming after round {rounds} from {other[0]}")
            return rounds

    def _rounds_of(self, checkpoint: dict[str, Any]) -> int:
        self._accept(checkpoint)
        return int(checkpoint["global_step"])

    @property
    def is_existing_run(self) -> bool:
        """Whether the command resumes or evaluates an existing run."""
        return self.checkpoint is not None and run_of(self.checkpoint) is not None

    def locked(self) -> Path | None:
        """The folder that this process has locked: of a new run, or of the checkpoint's run.

        All files of the run are written there. None on ranks other than the first, which write nothing.
        """
        if not self.is_existing_run and is_first_rank():
            self.lock = lock_new(self.logs / self._name, self._version)
            _check_unused(self.lock.folder)  # again: another process may have just finished a run there
        return self.lock.folder.resolve() if self.lock else None

    @property
    def results(self) -> Path:
        """Where results of a checkpoint are written: its run's folder, else the current folder."""
        assert self.checkpoint is not None
        return run_of(self.checkpoint) or Path()

    def release(self) -> None:
        """Unlock the folder."""
        if self.lock is not None:
            self.lock.release()


def is_first_rank() -> bool:
    """Whether this process is the one that writes files."""
    return bool(getattr(rank_zero_only, "rank", 0) == 0)


def _check_unused(folder: Path) -> None:
    """Refuse a new run in a folder that has a run."""
    if not is_unused(folder):
        raise InputError(f"{folder} already has a run; resume it by --ckpt_path last, or give another --version")


def check_place(run: Path, name: str | None, version: str | None, command: str) -> None:
    """Refuse a name or a version that is not that of a checkpoint's run, in whose folder a command writes.

    Raises:
        InputError: Naming the option.
    """
    for option, given, has in (("--name", name, run.parent.name), ("--version", version, run.name)):
        if given not in (None, has):
            said = f"{option} is {given}, but the checkpoint belongs to the run {run}"
            if command == "fit":
                raise InputError(
                    f"{said}, which resumes in its own folder; leave {option} out, or copy the checkpoint to another "
                    "folder to start a new run from it"
                )
            raise InputError(f"{said}, whose folder fedlit {command} writes to; leave {option} out")
