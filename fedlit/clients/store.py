"""The vectors that clients keep between their rounds, on disk; memory holds only one client's vector at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedlit.clients.legacy_store import pack_old, remove_old
from fedlit.clients.versions import Versions, pack_name, worth_rewriting
from fedlit.core.errors import InputError
from fedlit.core.files import atomic_write
from fedlit.core.messages import warn
from fedlit.core.packs import Pack, Row, read_pack, writing_pack
from fedlit.core.ranks import gather_list
from fedlit.core.records import ClientTask

#: File in the store's folder: for which checkpoints, by their finished rounds, vectors were kept at the last pruning.
RECORD = "checkpoints.json"


class ClientStore:
    """One vector for each client and each round in which it trained, in one file for each round and rank.

    Old versions are kept, not overwritten: an interrupted round can be repeated from the vectors before it, and a run
    resumes to the bit from any checkpoint whose versions have not been pruned. Each rank writes the vectors of its
    clients into one file, ``FOLDER/ROUND-RANK.pack``, which appears when the round's fits have ended; rewritten files
    have a hash in place of the rank. Ranks on several machines need a shared folder.

    Args:
        folder: Created when the first vector is written.
        rank: The rank of this process; rank 0 rewinds and prunes.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder = folder.absolute()
        self.rank = rank
        self._packs: dict[str, Pack] = {}  # by name
        self._versions = Versions.of([])

    def begin(self, checkpoints: Iterable[int] = ()) -> None:
        """Load the index of the files when a round begins; every rank has to call it.

        Ranks exchange file names, because a shared file system may show late what another machine wrote or removed.

        Args:
            checkpoints: On rank 0, the finished rounds of each checkpoint; vectors that none of them needs are removed.
        """
        names = gather_list(self._names())
        if self.rank == 0:
            self._index(names)
            if checkpoints := set(checkpoints):
                self.prune(checkpoints)
            names = [*self._packs]
        self._index(gather_list(names if self.rank == 0 else []))

    def find(self, clients: Sequence[int], round: int) -> list[Row | None]:
        """The place of each client's newest vector when a round begins; None before its first."""
        newest = self._versions.newest(round)
        packs, (_, _, pack, row) = list(self._packs.values()), self._versions
        places = [int(newest[client]) if client < len(newest) else -1 for client in clients]
        return [packs[pack[place]].row(int(row[place])) if place >= 0 else None for place in places]

    def located(self, tasks: Sequence[ClientTask]) -> list[ClientTask]:
        """The tasks of a round with the places of their clients' vectors."""
        rows = self.find([task.client for task in tasks], tasks[0].round) if tasks else []
        return [task._replace(kept=row) for task, row in zip(tasks, rows, strict=True)]

    @contextmanager
    def keeping(self, round: int) -> Iterator[Callable[[int, Tensor], None]]:
        """A function that stores a client's vector after its fit; the file appears when the block ends normally."""
        name = f"{round:06}-{self.rank}.pack"
        with writing_pack(self.folder / name) as pack:
            yield lambda client, kept: pack.add(client, round, kept)
        self._packs.pop(name, None)  # from an earlier attempt at this round; the new file is not indexed yet

    def prune(self, checkpoints: Iterable[int]) -> None:
        """Remove the versions that no checkpoint needs; checkpoints are given by their finished rounds.

        A file stays until at least half of it is not needed, see ``worth_rewriting``.
        """
        checkpoints = set(checkpoints)
        self._record(checkpoints)  # before anything is dropped
        packs, versions = list(self._packs.values()), self._versions
        needed = versions.needed(checkpoints)
        rows = np.array([len(pack.entries) for pack in packs], dtype=np.int64)
        live = np.bincount(versions.pack[needed], minlength=len(packs))
        fresh = int((versions.round == versions.round.max(initial=0)).sum())
        chosen = worth_rewriting(live, rows, fresh)
        merged = [index for index in chosen.tolist() if packs[index].size == packs[chosen[0]].size]
        self._replace([*merged, *np.flatnonzero(live == 0).tolist()], self._rewritten(merged, needed))

    def rewind(self, finished: int, trained: Mapping[int, int] | None = None) -> None:
        """Go back to the state after ``finished`` rounds: remove later vectors, and warn of missing ones.

        Args:
            finished: Finished rounds of the checkpoint that is resumed from.
            trained: For each client the last of these rounds, from 0, in which it trained; a warning names the clients
                whose vectors of that round are missing. None checks no client.

        Raises:
            InputError: If a version that is needed was pruned, if all are missing, or if a file is damaged.
        """
        record = self.folder / RECORD
        if not finished:
            remove_old(self.folder)
            for path in (*self.folder.glob("*.pack"), *self.folder.glob("*.part"), record):
                path.unlink(missing_ok=True)
            return
        pack_old(self.folder)
        self._index(self._names())
        pruned = self._recorded(finished)
        if not self._packs and not record.exists():
            raise InputError(
                f"{self.folder} has no vectors of the clients; resume in the run's own folder, or start anew without "
                "--ckpt_path"
            )
        if finished < max(pruned) and finished not in pruned:
            raise InputError(
                f"the clients' vectors after round {finished} were removed from {self.folder}, which keeps them only "
                "for the last two checkpoints and the best one; use --ckpt_path last"
            )
        self._keep_rounds_before(finished)
        self._record({finished, *(earlier for earlier in pruned if earlier < finished)})
        self._warn_of_missing(trained or {})

    def _keep_rounds_before(self, finished: int) -> None:
        versions = self._versions
        needed = versions.round < finished
        dropped, left = set(versions.pack[~needed].tolist()), set(versions.pack[needed].tolist())
        self._replace(dropped, [name for index in dropped & left for name in self._rewritten([index], needed)])
        for part in self.folder.glob("*.part"):
            part.unlink()

    def _warn_of_missing(self, trained: Mapping[int, int]) -> None:
        clients, rounds = (np.array([*numbers], dtype=np.int64) for numbers in (trained, trained.values()))
        last = np.full(max(clients.max(initial=-1), self._versions.client.max(initial=-1)) + 1, -1)
        last[self._versions.client] = self._versions.round  # in the order of rounds, so the last one remains
        if missing := sorted(clients[last[clients] != rounds].tolist()):
            warn(
                f"clients {', '.join(map(str, missing))}: the vector of their last round is not in {self.folder}, as "
                "their fit failed or files were removed; they continue from an earlier vector, or from none"
            )

    def _names(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.pack"))

    def _index(self, names: Iterable[str]) -> None:
        """Make these packs the indexed ones, reading those that are new."""
        names = sorted(set(names))
        if names != [*self._packs]:
            self._packs = {name: self._packs.get(name) or read_pack(self.folder / name) for name in names}
            self._versions = Versions.of(list(self._packs.values()))

    def _rewritten(self, indices: Sequence[int], needed: NDArray[np.bool_]) -> list[str]:
        """Write the needed rows of some packs into a new pack; returns its name, or nothing without such rows."""
        packs, versions = list(self._packs.values()), self._versions
        client, round, pack, row = (column[np.isin(versions.pack, indices) & needed] for column in versions)
        if not len(client):
            return []
        name = pack_name(client, round)
        with writing_pack(self.folder / name) as new:
            for whose, when, where, place in np.stack([client, round, pack, row], 1).tolist():
                found = packs[where].row(place)
                new.copy(whose, when, found.content(), found.crc)
        return [name]

    def _replace(self, indices: Iterable[int], by: Sequence[str]) -> None:
        """Remove packs whose needed rows are in other packs, those named ``by``, and update the index."""
        names = [*self._packs]
        gone = {names[index] for index in indices} - set(by)  # a killed run may have left the new pack already
        for name in gone:
            (self.folder / name).unlink(missing_ok=True)
        self._index({*names, *by} - gone)

    def _recorded(self, finished: int) -> list[int]:
        """Finished rounds of the checkpoints whose vectors were kept, as far as they are known."""
        record = self.folder / RECORD
        if not record.exists():
            return [0]
        try:
            return [int(rounds) for rounds in json.loads(record.read_text())] or [0]
        except (ValueError, TypeError):
            warn(f"{record} is damaged: some of the clients' vectors after round {finished} may be missing")
            return [finished]

    def _record(self, checkpoints: set[int]) -> None:
        with atomic_write(self.folder / RECORD) as file:
            json.dump(sorted(checkpoints), file)
