"""Checkpoint files: written atomically, verified by a checksum, and loaded without running code.

The file is a zip archive as ``torch.save`` writes it, so programs that read those archives can read it. Its zip comment
holds the SHA-256 of everything before it, so the checksum cannot be separated from the content.

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
from fedlit.core.messages import one_line

FORMAT = 2
VERSION = "pytorch-lightning_version"
LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
#: How many folders below a callback's its checkpoints are looked for; the slash of a metric in a file's name makes one.
DEEPEST = 2

SEAL = b"fedlit sha256 "
SEAL_SIZE = len(SEAL) + 64
LENGTH_SIZE = 2  # bytes of the comment's length, the last field of an archive without a comment
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
    """Lightning's plugin for checkpoints, with checksums; remote files are left to Lightning.

    When ``last.ckpt`` is replaced, the old file is kept as ``previous.ckpt`` (a hard link), but only if this process
    wrote or read it and so knows that it is valid. A broken ``last.ckpt`` therefore never replaces the
    ``previous.ckpt`` that a run resumes from.
    """

    def __init__(self) -> None:
        self._valid: set[Path] = set()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        if storage_options is not None or _is_remote(path):
            check_data(checkpoint)
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        file = _resolved(path)
        write(checkpoint, file, file.with_name(PREVIOUS) if file.name == LAST and file in self._valid else None)
        self._valid.add(file)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint, always with ``weights_only=True``."""
        if _is_remote(path):
            return super().load_checkpoint(path, map_location, weights_only=True)
        checkpoint = read(Path(path), map_location)
        self._valid.add(_resolved(path))
        return checkpoint


def write(checkpoint: Mapping[str, Any], path: Path, previous: Path | None = None) -> None:
    """Write a checkpoint atomically: it replaces the old file once all of it is on disk.

    Args:
        checkpoint: Tensors and plain values.
        path: The file.
        previous: Where to keep the old file; None to discard it.

    Raises:
        InputError: If the checkpoint has a part that `read` would refuse; the old file stays.
        UnwritableError: If the file cannot be written; the old file stays.
    """
    check_data(checkpoint)
    buffer = io.BytesIO()
    torch.save({**checkpoint, "fedlit": {**checkpoint.get("fedlit", {}), "format": FORMAT}}, buffer)
    # The views are released even if writing fails; a buffer with views cannot be freed.
    with buffer.getbuffer() as whole, whole[:-LENGTH_SIZE] as archive, atomic_write(path, "wb") as file:
        file.write(archive)
        file.write(SEAL_SIZE.to_bytes(LENGTH_SIZE, "little") + _seal(archive))
        file.flush()
        os.fsync(file.fileno())
        if previous is not None:
            _link_previous(path, previous)


def check_data(checkpoint: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that `read` could not load.

    Raises:
        InputError: Naming the part, its type and the types that are allowed.
    """
    if found := unsupported_part(checkpoint):
        raise InputError(f"{found}, which a checkpoint cannot hold: it is loaded as data, never as code; {REMEDY}")


def read(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint without running any code from the file.

    Raises:
        BrokenCheckpointError: If the file is empty, truncated or modified, was written by a newer fedlit or by another
            program, or holds anything but tensors and plain values.
    """
    try:
        content = require_regular(path).read_bytes()
    except OSError as error:
        raise BrokenCheckpointError(path, f"cannot be read: {error.strerror}") from error
    seal = content[-SEAL_SIZE:]
    sealed = seal.startswith(SEAL)
    if not content:
        raise BrokenCheckpointError(path, "is not a complete checkpoint: it is empty")
    if sealed and seal != _seal(memoryview(content)[: -SEAL_SIZE - LENGTH_SIZE]):
        raise BrokenCheckpointError(path, "is not a complete checkpoint: its checksum does not match its content")
    if not content.startswith(ZIP):
        raise BrokenCheckpointError(path, "is not a complete checkpoint: it is not an archive of torch.save")
    try:
        if isinstance(map_location, str | torch.device):
            torch.empty(0, device=map_location)  # PyTorch 2.4 takes an unknown device for content that it must not load
        checkpoint = torch.load(io.BytesIO(content), map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise BrokenCheckpointError(path, "was not loaded: it holds more than tensors and plain values") from error
    except Exception as error:  # a damaged archive may raise anything
        if sealed:  # the checksum has shown that the file is complete
            reason = f"cannot be loaded to {map_location}: {one_line(str(error), 150)}"
            raise BrokenCheckpointError(path, reason) from error
        raise BrokenCheckpointError(path, "is not a complete checkpoint: it is truncated or damaged") from error
    _check(checkpoint, path, sealed)
    return checkpoint  # type: ignore[no-any-return]


def check_format(checkpoint: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of a newer fedlit.

    Raises:
        InputError: If this version does not read the checkpoint's format.
    """
    format = checkpoint.get("fedlit", {}).get("format", 1)
    if format not in range(1, FORMAT + 1):
        raise InputError(f"the checkpoint has format {format}, but this fedlit reads 1 to {FORMAT}; upgrade fedlit")


def _check(checkpoint: Any, path: Path, sealed: bool) -> None:
    parts = {"state_dict": dict, "global_step": int, "fedlit": dict}
    if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(k), t) for k, t in parts.items()):
        raise BrokenCheckpointError(path, f"is not of a fedlit run: it must have {', '.join(parts)}")
    rounds, version = checkpoint["global_step"], checkpoint.get(VERSION, "0")
    if isinstance(rounds, bool) or not 0 <= rounds <= COUNT_MAX:
        raise BrokenCheckpointError(path, f"cannot be used: its number of rounds is {rounds}")
    try:
        Version(version)
    except (InvalidVersion, TypeError) as error:
        raise BrokenCheckpointError(path, f"cannot be used: {version!r} is not a version of Lightning") from error
    try:
        check_format(checkpoint)
    except InputError as error:
        raise BrokenCheckpointError(path, f"cannot be read: {error}") from error
    if checkpoint["fedlit"].get("format", 1) > 1 and not sealed:
        raise BrokenCheckpointError(path, "is not a complete checkpoint: its checksum is truncated or damaged")


def _seal(archive: memoryview) -> bytes:
    return SEAL + hashlib.sha256(archive).hexdigest().encode()


def _link_previous(path: Path, previous: Path) -> None:
    """Give a file a second name, under which it stays when the first name is replaced.

    The second name is moved atomically, so it names a complete file at every moment.
    """
    part = previous.with_name(f"{previous.name}.part")
    part.unlink(missing_ok=True)
    try:
        part.hardlink_to(path)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, part)
    part.replace(previous)
    part.unlink(missing_ok=True)  # `replace` does nothing if both already were names of one file


def _resolved(path: str | Path) -> Path:
    """The absolute path of a file, with links to its folder resolved."""
    return Path(path).parent.resolve() / Path(path).name


def _is_remote(path: str | Path) -> bool:
    return "://" in str(path)
