"""What clients keep from one of their rounds to the next, on disk: memory holds the vector of one client at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fedlit.core.errors import InputError
from fedlit.core.files import replacing
from fedlit.core.messages import warn

#: In the store's folder: finished rounds of the checkpoints that everything was kept for when it was last pruned.
CHECKPOINTS = "checkpoints.json"


class ClientStore:
    """A vector for each client, in ``FOLDER/CLIENT/ROUND.npy`` with the round, from 0, whose fit left it.

    Versions are kept, not overwritten: a round that was cut off can be made again from what the clients had before it,
    and a run resumes to the bit from any checkpoint whose versions have not been pruned. Whoever trains a client, a
    worker or another rank, reads and writes its files by itself; ranks on several machines need a shared folder.

    Args:
        folder: Made when the first vector is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, client: int, round: int) -> Tensor | None:
        """What a client has kept when round ``round`` begins, (V,), float32; None before its first."""
        newest = max((v for v in self._versions(client) if v < round), default=None)
        if newest is None:
            return None
        return torch.from_numpy(np.load(self._versions(client)[newest], allow_pickle=False))

    def write(self, client: int, round: int, kept: Tensor) -> None:
        """Keep a client's vector after its fit of round ``round``, in one move."""
        path = self.folder / str(client) / f"{round:06}.npy"
        with replacing(path, "wb") as file:
            np.save(file, kept.detach().cpu().numpy(), allow_pickle=False)

    def prune(self, clients: Iterable[int], checkpoints: Iterable[int]) -> None:
        """Drop the versions of these clients that none of the checkpoints, given by their finished rounds, needs."""
        checkpoints = set(checkpoints)
        self._record(checkpoints)  # before anything is dropped
        for client in clients:
            versions = self._versions(client)
            needed = {max((v for v in versions if v < finished), default=None) for finished in checkpoints}
            for version, path in versions.items():
                if version not in needed and version < max(checkpoints):
                    path.unlink(missing_ok=True)

    def rewind(self, finished: int, trained: Mapping[int, int] | None = None) -> None:
        """Go back to where ``finished`` rounds were done: drop what later rounds left, and say what is missing.

        Args:
            finished: Rounds of the checkpoint that is gone on from.
            trained: Of each client that trained in these rounds the last in which it did, from 0; what is not there of
                these is said. None is nobody.

        Raises:
            InputError: When a version that is needed there was pruned, or all are missing.
        """
        clients = [int(folder.name) for folder in self.folder.glob("[0-9]*")] if self.folder.exists() else []
        record = self.folder / CHECKPOINTS
        pruned = self._recorded(finished)
        if finished and not clients and not record.exists():
            raise InputError(
                f"what the clients keep is not in {self.folder}; resume in the run's own folder, or start anew "
                "without --ckpt_path"
            )
        if finished and finished < max(pruned) and finished not in pruned:
            raise InputError(
                f"what the clients kept after round {finished} is gone from {self.folder}: only the last two and the "
                "best checkpoint keep it; use --ckpt_path last"
            )
        for client in clients:
            for version, path in self._versions(client).items():
                if version >= finished:
                    path.unlink()
        if finished:
            self._record({finished, *(earlier for earlier in pruned if earlier < finished)})
        else:
            record.unlink(missing_ok=True)

        missing = [client for client, round in (trained or {}).items() if round not in self._versions(client)]
        if finished and missing:
            warn(
                f"of clients {', '.join(map(str, sorted(missing)))} what they kept in their last round is not in "
                f"{self.folder}: their fits failed then, or files were removed; they go on from what is there"
            )

    def _recorded(self, finished: int) -> list[int]:
        """Finished rounds of the checkpoints that everything was kept for, as far as that is known."""
        record = self.folder / CHECKPOINTS
        if not record.exists():
            return [0]
        try:
            return [int(rounds) for rounds in json.loads(record.read_text())] or [0]
        except (ValueError, TypeError):
            warn(f"{record} is damaged: whether clients kept more after round {finished} than is there is not known")
            return [finished]

    def _record(self, checkpoints: set[int]) -> None:
        with replacing(self.folder / CHECKPOINTS) as file:
            json.dump(sorted(checkpoints), file)

    def _versions(self, client: int) -> dict[int, Path]:
        """The files of a client by round."""
        folder = self.folder / str(client)
        if not folder.is_dir():
            return {}
        matches = [(re.fullmatch(r"(\d+)\.npy", path.name), path) for path in folder.iterdir()]
        return {int(match[1]): path for match, path in matches if match}
