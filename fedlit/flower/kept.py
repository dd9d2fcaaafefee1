"""Stores what a client keeps from round to round at its site; the server says which version to start from."""

from __future__ import annotations

import zlib
from collections.abc import Container
from pathlib import Path

from torch import Tensor

from fedlit.core.packs import Row, read_pack, writing_pack
from fedlit.flower.frame import WireError
from fedlit.flower.wire import Receipt


class Versions:
    """A file with checksums for each round that kept something, ``FOLDER/FEDERATION/ROUND.pack``.

    An answer may arrive too late or be left out, so the last version is not always the valid one. The server therefore
    stores a receipt of the valid version, and sends it with the next task. A run that is resumed from any of its
    checkpoints finds what the client had then.

    Args:
        folder: The site's folder.
        federation: The server's name for the federation.

    Raises:
        WireError: If this name is not valid as a folder name.
    """

    def __init__(self, folder: Path, federation: str) -> None:
        if not (federation.isascii() and federation.isalnum() and len(federation) <= 64):
            raise WireError(f"the federation's name {federation[:64]!r} is not valid")
        self._folder = folder / federation

    def find(self, receipt: Receipt) -> Row | None:
        """The stored version of a receipt; None if there is none.

        Raises:
            WireError: If the file is missing, or has another content.
        """
        if receipt.round < 0:
            return None
        path = self._path(receipt.round)
        missing = f"what the client kept in round {receipt.round + 1} is not in {self._folder}"
        if not path.is_file():
            raise WireError(f"{missing}; put the folder back, or start a new run")
        row = read_pack(path).row(0)
        if row.crc != receipt.crc:
            raise WireError(f"{missing}, as the file there has other content; put the folder back, or start a new run")
        return row

    def keep(self, client: int, round: int, kept: Tensor) -> Receipt:
        """Write what the client keeps after a round, atomically."""
        with writing_pack(self._path(round)) as pack:
            pack.add(client, round, kept)
        content = kept.detach().cpu().numpy().astype("<f4", copy=False).tobytes()
        return Receipt(round, zlib.crc32(content))

    def prune(self, round: int, needed: Container[int]) -> None:
        """Remove the versions of earlier rounds that are not needed."""
        for path in self._folder.glob("*.pack"):
            if (version := int(path.stem)) < round and version not in needed:
                path.unlink(missing_ok=True)

    def _path(self, round: int) -> Path:
        return self._folder / f"{round:06}.pack"
