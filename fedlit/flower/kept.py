"""What a client keeps from round to round, at its site: the server says which of the versions it is to begin with."""

from __future__ import annotations

import zlib
from collections.abc import Container
from pathlib import Path

from torch import Tensor

from fedlit.core.packs import Row, read_pack, writing_pack
from fedlit.flower.frame import WireError
from fedlit.flower.wire import Receipt


class Versions:
    """A file for each round that left something, ``FOLDER/FEDERATION/ROUND.pack``, each with checksums.

    An answer may come too late or be left out, so that the last version is not always the one that counts: the server
    keeps a receipt of that, and sends it with the next task. A run that is resumed, from whichever of its checkpoints,
    finds what the client had then.

    Args:
        folder: The site's.
        federation: What the server calls the federation.

    Raises:
        WireError: When that could not be a folder's name.
    """

    def __init__(self, folder: Path, federation: str) -> None:
        if not (federation.isascii() and federation.isalnum() and len(federation) <= 64):
            raise WireError(f"the federation is called {federation[:64]!r}, which is no name")
        self._folder = folder / federation

    def find(self, receipt: Receipt) -> Row | None:
        """Where the version of a receipt lies; None for none.

        Raises:
            WireError: When it is not there, or is another.
        """
        if receipt.round < 0:
            return None
        path = self._path(receipt.round)
        missing = f"what the client kept in round {receipt.round + 1} is not in {self._folder}"
        if not path.is_file():
            raise WireError(f"{missing}; put the folder back, or start a new run")
        row = read_pack(path).row(0)
        if row.crc != receipt.crc:
            raise WireError(f"{missing}, but something else; put the folder back, or start a new run")
        return row

    def keep(self, client: int, round: int, kept: Tensor) -> Receipt:
        """Write what a round left; there as a whole, or not at all."""
        with writing_pack(self._path(round)) as pack:
            pack.add(client, round, kept)
        content = kept.detach().cpu().numpy().astype("<f4", copy=False).tobytes()
        return Receipt(round, zlib.crc32(content))

    def prune(self, round: int, needed: Container[int]) -> None:
        """Drop the versions of rounds before this one that are not needed."""
        for path in self._folder.glob("*.pack"):
            if (version := int(path.stem)) < round and version not in needed:
                path.unlink(missing_ok=True)

    def _path(self, round: int) -> Path:
        return self._folder / f"{round:06}.pack"
