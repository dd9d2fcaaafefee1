"""Arithmetic of the store: which vector on disk a client has in a given round, and which files to rewrite."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedlit.core.packs import Pack

Integers = NDArray[np.signedinteger]


class Versions(NamedTuple):
    """The rows of several packs in the order of their rounds, as columns (R,) of int32.

    A million rows take 16 MB and about ten milliseconds to search.

    Attributes:
        client: The client of each row.
        round: The round, from 0, in which the row was written.
        pack: Index of its pack.
        row: Its index in the pack.
    """

    client: Integers
    round: Integers
    pack: Integers
    row: Integers

    @classmethod
    def of(cls, packs: Sequence[Pack]) -> Versions:
        """The rows of these packs."""
        counts = [len(pack.entries) for pack in packs]
        columns = (
            _joined([pack.entries["client"] for pack in packs]),
            _joined([pack.entries["round"] for pack in packs]),
            np.repeat(np.arange(len(packs), dtype=np.int32), counts),
            _joined([np.arange(count) for count in counts]),
        )
        order = np.argsort(columns[1], kind="stable")
        return cls(*(column[order] for column in columns))

    def newest(self, before: int) -> Integers:
        """Index of each client's newest row of rounds before ``before``, (largest client + 1,); -1 for none."""
        found = np.full(int(self.client.max(initial=-1)) + 1, -1, dtype=np.int32)
        end = int(np.searchsorted(self.round, before))
        found[self.client[:end]] = np.arange(end, dtype=np.int32)  # a client's last row, the newest, remains
        return found

    def needed(self, checkpoints: Iterable[int]) -> NDArray[np.bool_]:
        """Which rows are needed to resume from these checkpoints, given by their finished rounds, (R,).

        Rows written after the newest checkpoint are needed as well.
        """
        checkpoints = set(checkpoints)
        needed = self.round >= max(checkpoints)
        for finished in checkpoints:
            newest = self.newest(finished)
            needed[newest[newest >= 0]] = True
        return needed


def worth_rewriting(live: Integers, rows: Integers, fresh: int) -> Integers:
    """Indices of the packs to merge into one, so that disk use stays bounded and few rows are written again.

    Only packs of which at most half is needed are merged, those with the fewest needed rows first, up to ``2 * fresh``
    needed rows; and none if that would free fewer than ``fresh`` rows. In the long run a row is thus written twice, and
    the disk holds at most two rows for each needed one, plus the rows of two rounds.

    Args:
        live: Number of needed rows of each pack, (P,).
        rows: Number of rows of each pack, (P,).
        fresh: Number of rows that a round adds.
    """
    by_need = np.argsort(live, kind="stable")
    chosen = by_need[(live[by_need] > 0) & (2 * live[by_need] <= rows[by_need])]
    chosen = chosen[np.cumsum(live[chosen]) <= 2 * fresh]
    return chosen if (rows - live)[chosen].sum() >= fresh else chosen[:0]


def pack_name(client: Integers, round: Integers) -> str:
    """The name of a pack of these rows, (R,) each; packs of other rows have other names."""
    digest = hashlib.blake2b(np.stack([client, round]).astype("<i8").tobytes(), digest_size=8)
    return f"{int(round.max(initial=0)):06}-{digest.hexdigest()}.pack"


def _joined(parts: Sequence[NDArray[Any]]) -> Integers:
    return np.concatenate([np.zeros(0, dtype=np.int32), *(part.astype(np.int32) for part in parts)])
