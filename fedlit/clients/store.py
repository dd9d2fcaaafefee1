"""What clients keep from one of their rounds to the next, on disk: memory holds the vector of one client at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedlit.clients.unpacked import pack_old, remove_old
from fedlit.clients.versions import Versions, name_of, worth_rewriting
from fedlit.core.errors import InputError
from fedlit.core.files import atomic_write
from fedlit.core.messages import warn
from fedlit.core.packs import Pack, Row, read_pack, writing_pack
from fedlit.core.ranks import gather_list
from fedlit.core.records import ClientTask

#: In the store's folder: finished rounds of the checkpoints that everything was kept for when it was last pruned.
RECORD = "checkpoints.json"


class ClientStore:
    """A vector for each client and each of its rounds, from 0, whose fit left it; a file for each round and rank.

    Versions are kept, not overwritten: a round that was cut off can be made again from what the clients had before it,
    and a run resumes to the bit from any checkpoint whose versions have not been pruned. A rank writes what its clients
    left into one file, ``FOLDER/ROUND-RANK.pack``, which is there once the round's fits have ended; rewritten ones have
    another word for the rank. Ranks on several machines need a shared folder.

    Args:
        folder: Made when the first vector is written.
        rank: This process's; the first rewinds and prunes.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder = folder.absolute()
        self.rank = rank
        self._packs: dict[str, Pack] = {}  # by name
        self._versions = Versions.of([])

    def begin(self, checkpoints: Iterable[int] = ()) -> None:
        """Look at what is there when a round begins; on every rank at once.

        Ranks tell each other what they see, as a file system may show late what another machine wrote or removed.

        Args:
            checkpoints: For the first rank: those by their finished rounds; what none of them needs is dropped.
        """
        names = gather_list(self._names())
        if self.rank == 0:
            self._look_at(names)
            if checkpoints := set(checkpoints):
                self.prune(checkpoints)
            names = [*self._packs]
        self._look_at(gather_list(names if self.rank == 0 else []))

    def find(self, clients: Sequence[int], round: int) -> list[Row | None]:
        """Where what clients have kept when round ``round`` begins lies; None before a client's first."""
        newest = self._versions.newest(round)
        packs, (_, _, pack, row) = list(self._packs.values()), self._versions
        places = [int(newest[client]) if client < len(newest) else -1 for client in clients]
        return [packs[pack[place]].row(int(row[place])) if place >= 0 else None for place in places]

    def located(self, tasks: Sequence[ClientTask]) -> list[ClientTask]:
        """The tasks of a round, which say where what their clients have kept lies."""
        rows = self.find([task.client for task in tasks], tasks[0].round) if tasks else []
        return [task._replace(kept=row) for task, row in zip(tasks, rows, strict=True)]

    @contextmanager
    def keeping(self, round: int) -> Iterator[Callable[[int, Tensor], None]]:
        """A function that keeps a client's vector after its fit of round ``round``; all at the block's end, or none."""
        name = f"{round:06}-{self.rank}.pack"
        with writing_pack(self.folder / name) as pack:
            yield lambda client, kept: pack.add(client, round, kept)
        self._packs.pop(name, None)  # of an earlier try: the new one is still to be looked at

    def prune(self, checkpoints: Iterable[int]) -> None:
        """Drop the versions that none of the checkpoints, given by their finished rounds, needs.

        A file stays until more than half of it is not needed, see ``worth_rewriting``.
        """
        checkpoints = set(checkpoints)
        self._record(checkpoints)  # before anything is dropped
        packs, versions = list(self._packs.values()), self._versions
        needed = versions.needed(checkpoints)
        rows = np.array([len(pack.entries) for pack in packs], dtype=np.int64)
        live = np.bincount(versions.pack[needed], minlength=len(packs))
        fresh = int((versions.round == versions.round.max(initial=0)).sum())
        chosen = worth_rewriting(live, rows, fresh)
        alike = [index for index in chosen.tolist() if packs[index].size == packs[chosen[0]].size]
        self._replace([*alike, *np.flatnonzero(live == 0).tolist()], self._rewritten(alike, needed))

    def rewind(self, finished: int, trained: Mapping[int, int] | None = None) -> None:
        """Go back to the state after ``finished`` rounds: drop what later rounds left, and warn of what is missing.

        Args:
            finished: Rounds of the checkpoint that is resumed from.
            trained: The last of these rounds, from 0, in which each client trained; a warning names the clients whose
                vectors of that round are missing. None checks no client.

        Raises:
            InputError: When a version that is needed there was pruned, all are missing, or a file is damaged.
        """
        record = self.folder / RECORD
        if not finished:
            remove_old(self.folder)
            for path in (*self.folder.glob("*.pack"), *self.folder.glob("*.part"), record):
                path.unlink(missing_ok=True)
            return
        pack_old(self.folder)
        self._look_at(self._names())
        pruned = self._recorded(finished)
        if not self._packs and not record.exists():
            raise InputError(
                f"what the clients keep is not in {self.folder}; resume in the run's own folder, or start anew "
                "without --ckpt_path"
            )
        if finished < max(pruned) and finished not in pruned:
            raise InputError(
                f"what the clients kept after round {finished} is gone from {self.folder}: only the last two and the "
                "best checkpoint keep it; use --ckpt_path last"
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
        last[self._versions.client] = self._versions.round  # in the order of rounds: the last stays
        if missing := sorted(clients[last[clients] != rounds].tolist()):
            warn(
                f"of clients {', '.join(map(str, missing))} what they kept in their last round is not in "
                f"{self.folder}: their fits failed then, or files were removed; they go on from what is there"
            )

    def _names(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.pack"))

    def _look_at(self, names: Iterable[str]) -> None:
        """Read the packs of these names that are not known yet, and forget all others."""
        names = sorted(set(names))
        if names != [*self._packs]:
            self._packs = {name: self._packs.get(name) or read_pack(self.folder / name) for name in names}
            self._versions = Versions.of(list(self._packs.values()))

    def _rewritten(self, indices: Sequence[int], needed: NDArray[np.bool_]) -> list[str]:
        """The name of a new pack of the needed rows of some packs; none where there are no such rows."""
        packs, versions = list(self._packs.values()), self._versions
        client, round, pack, row = (column[np.isin(versions.pack, indices) & needed] for column in versions)
        if not len(client):
            return []
        name = name_of(client, round)
        with writing_pack(self.folder / name) as new:
            for whose, when, where, place in np.stack([client, round, pack, row], 1).tolist():
                found = packs[where].row(place)
                new.copy(whose, when, found.content(), found.crc)
        return [name]

    def _replace(self, indices: Iterable[int], by: Sequence[str]) -> None:
        """Remove packs, of which what is needed is in others now."""
        names = [*self._packs]
        gone = {names[index] for index in indices} - set(by)  # one that a kill left beside its parts is made again
        for name in gone:
            (self.folder / name).unlink(missing_ok=True)
        self._look_at({*names, *by} - gone)

    def _recorded(self, finished: int) -> list[int]:
        """Finished rounds of the checkpoints that everything was kept for, as far as that is known."""
        record = self.folder / RECORD
        if not record.exists():
            return [0]
        try:
            return [int(rounds) for rounds in json.loads(record.read_text())] or [0]
        except (ValueError, TypeError):
            warn(f"{record} is damaged: whether clients kept more after round {finished} than is there is not known")
            return [finished]

    def _record(self, checkpoints: set[int]) -> None:
        with atomic_write(self.folder / RECORD) as file:
            json.dump(sorted(checkpoints), file)
