"""A checkpoint as a file: data, not code; written whole or not at all, read whole or refused.

The file is a zip archive as ``torch.save`` writes it, so programs that read those read it. Its zip comment is the
SHA-256 of all that stands before: content and checksum are one file and cannot come apart.

Format 2 has that checksum; format 1, of earlier versions and of Trainers without ``CheckpointFile``, has none. Both are
read.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from packaging.version import InvalidVersion, Version

from fedlit.core.errors import InputError
from fedlit.core.files import atomic_write, require_regular
from fedlit.core.limits import COUNT_MAX
from fedlit.core.loadable import REMEDY, unsupported_part

FORMAT = 2
VERSION = "pytorch-lightning_version"
LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"

SEAL = b"fedlit sha256 "
SEAL_SIZE = len(SEAL) + 64
LENGTH_SIZE = 2  # of a zip comment's length, which ends an archive that has no comment
ZIP = b"PK\x03\x04"


class BrokenCheckpointError(InputError):
    """A file that cannot be used as a checkpoint.

    Args:
        path: The file.
        reason: What is wrong with it.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.reason = f"{path} {reason}"

    def __str__(self) -> str:
        return f"{self.reason}; use --ckpt_path last, best or another file"


class CheckpointFile(TorchCheckpointIO):
    """Lightning's plugin for checkpoints, with checksums; files on other than local systems are left to Lightning.

    The file that ``last.ckpt`` takes the place of is kept as ``previous.ckpt``, by a hard link, where this process
    wrote or read it and so knows it to be whole: a run whose ``last.ckpt`` is broken keeps the file that it resumes
    from instead.
    """

    def __init__(self) -> None:
        self._whole: set[Path] = set()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        if storage_options is not None or _is_remote(path):
            check_data(checkpoint)
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        file = _resolved(path)
        write(checkpoint, file, file.with_name(PREVIOUS) if file.name == LAST and file in self._whole else None)
        self._whole.add(file)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The checkpoint; ``weights_only`` is true whatever is given."""
        if _is_remote(path):
            return super().load_checkpoint(path, map_location, weights_only=True)
        checkpoint = read(Path(path), map_location)
        self._whole.add(_resolved(path))
        return checkpoint


def write(checkpoint: Mapping[str, Any], path: Path, previous: Path | None = None) -> None:
    """Replace a file by a checkpoint, atomically and once all of it is on disk.

    Args:
        checkpoint: Tensors and plain values.
        path: The file.
        previous: Where to keep the file that was there.

    Raises:
        InputError: When it holds what `read` would refuse; names that. The file that was there is untouched.
        UnwritableError: When it cannot be written; so is it then.
    """
    check_data(checkpoint)
    buffer = io.BytesIO()
    torch.save({**checkpoint, "fedlit": {**checkpoint.get("fedlit", {}), "format": FORMAT}}, buffer)
    # Views of the buffer are let go of where writing fails as well: it cannot be freed before them.
    with buffer.getbuffer() as whole, whole[:-LENGTH_SIZE] as archive, atomic_write(path, "wb") as file:
        file.write(archive)
        file.write(SEAL_SIZE.to_bytes(LENGTH_SIZE, "little") + _seal(archive))
        file.flush()
        os.fsync(file.fileno())
        if previous is not None:
            _link_previous(path, previous)


def check_data(checkpoint: Mapping[str, Any]) -> None:
    """Refuse what could be written and never be read again.

    Raises:
        InputError: Naming the part, its type and what it may be.
    """
    if found := unsupported_part(checkpoint):
        raise InputError(f"{found}, which a checkpoint cannot hold: it is read as data, never as code; {REMEDY}")


def read(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The checkpoint in a file. Nothing that the file holds is run.

    Raises:
        BrokenCheckpointError: When the file is empty, cut off, changed, of a newer fedlit, of another program, or holds
            other than tensors and plain values.
    """
    try:
        content = require_regular(path).read_bytes()
    except OSError as error:
        raise BrokenCheckpointError(path, f"cannot be read: {error.strerror}") from error
    seal = content[-SEAL_SIZE:]
    sealed = seal.startswith(SEAL)
    if not content:
        raise BrokenCheckpointError(path, "is not a whole checkpoint: it is empty")
    if sealed and seal != _seal(memoryview(content)[: -SEAL_SIZE - LENGTH_SIZE]):
        raise BrokenCheckpointError(path, "is not a whole checkpoint: its checksum is not that of its content")
    if not content.startswith(ZIP):
        raise BrokenCheckpointError(path, "is not a whole checkpoint: it is no archive of torch.save")
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise BrokenCheckpointError(
            path, "holds more than tensors and plain values, as code would be, and was not loaded"
        ) from error
    except Exception as error:  # a damaged archive may raise anything
        raise BrokenCheckpointError(path, "is not a whole checkpoint: it is cut off or damaged") from error
    _check(checkpoint, path, sealed)
    return checkpoint  # type: ignore[no-any-return]


def check_format(checkpoint: Mapping[str, Any]) -> None:
    """Refuse what a newer fedlit wrote.

    Raises:
        InputError: When the format is none of those that are read.
    """
    format = checkpoint.get("fedlit", {}).get("format", 1)
    if format not in range(1, FORMAT + 1):
        raise InputError(f"the checkpoint is of format {format}, and this fedlit reads 1 to {FORMAT}; upgrade fedlit")


def _check(checkpoint: Any, path: Path, sealed: bool) -> None:
    parts = {"state_dict": dict, "global_step": int, "fedlit": dict}
    if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(k), t) for k, t in parts.items()):
        raise BrokenCheckpointError(path, f"is not of a run of fedlit: it lacks {', '.join(parts)}")
    rounds, version = checkpoint["global_step"], checkpoint.get(VERSION, "0")
    if isinstance(rounds, bool) or not 0 <= rounds <= COUNT_MAX:
        raise BrokenCheckpointError(path, f"cannot be used: it is of {rounds} rounds")
    try:
        Version(version)
    except (InvalidVersion, TypeError) as error:
        raise BrokenCheckpointError(path, f"cannot be used: {version!r} is no version of Lightning") from error
    try:
        check_format(checkpoint)
    except InputError as error:
        raise BrokenCheckpointError(path, f"cannot be read: {error}") from error
    if checkpoint["fedlit"].get("format", 1) > 1 and not sealed:
        raise BrokenCheckpointError(path, "is not a whole checkpoint: its checksum is cut off or damaged")


def _seal(archive: memoryview) -> bytes:
    return SEAL + hashlib.sha256(archive).hexdigest().encode()


def _link_previous(path: Path, previous: Path) -> None:
    """Let a file be found by a second name, which outlives the replacement of the first.

    The second name is moved in one step from the file that had it: there is no moment in which it names none.
    """
    part = previous.with_name(f"{previous.name}.part")
    part.unlink(missing_ok=True)
    try:
        part.hardlink_to(path)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, part)
    part.replace(previous)
    part.unlink(missing_ok=True)  # where both were names of one file already, the system moves nothing


def _resolved(path: str | Path) -> Path:
    """One form of a file's path, independent of the current folder and of links to its folder."""
    return Path(path).parent.resolve() / Path(path).name


def _is_remote(path: str | Path) -> bool:
    return "://" in str(path)
