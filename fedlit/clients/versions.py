"""Which of the vectors on disk is a client's in a given round, and which files are worth rewriting: arithmetic."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedlit.core.packs import Pack

Integers = NDArray[np.signedinteger]


class Versions(NamedTuple):
    """The rows of some packs, in the order of their rounds, (R,) int32 each.

    A million rows are 16 MB, looked through in some ten milliseconds.

    Attributes:
        client: Whose each is.
        round: The round, from 0, whose fit left it.
        pack: Which of the packs it is in.
        row: Its place there.
    """

    client: Integers
    round: Integers
    pack: Integers
    row: Integers

    @classmethod
    def of(cls, packs: Sequence[Pack]) -> Versions:
        """Those of some packs."""
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
        """The newest row of each client of rounds before ``before``, (largest client + 1,); -1 where there is none."""
        found = np.full(int(self.client.max(initial=-1)) + 1, -1, dtype=np.int32)
        end = int(np.searchsorted(self.round, before))
        found[self.client[:end]] = np.arange(end, dtype=np.int32)  # of a client's rows the last, the newest, stays
        return found

    def needed(self, checkpoints: Iterable[int]) -> NDArray[np.bool_]:
        """Which rows a run needs that goes on from one of these checkpoints, given by their finished rounds, (R,).

        What was left since the newest of them is needed as well.
        """
        checkpoints = set(checkpoints)
        needed = self.round >= max(checkpoints)
        for finished in checkpoints:
            newest = self.newest(finished)
            needed[newest[newest >= 0]] = True
        return needed


def worth_rewriting(live: Integers, rows: Integers, fresh: int) -> Integers:
    """Which packs to make one of, so that disk does not grow without bound and yet few rows are written again.

    They are packs of which no more than half is needed, those with least first, until ``2 * fresh`` needed rows are
    together; and none at all while that would free fewer than ``fresh``. So in the long run a row is written twice, and
    on disk are two rows for each that is needed, and two rounds' worth, at most.

    Args:
        live: Rows of each pack that are needed, (P,).
        rows: Rows of each pack, (P,).
        fresh: Rows that a round adds.
    """
    by_need = np.argsort(live, kind="stable")
    chosen = by_need[(live[by_need] > 0) & (2 * live[by_need] <= rows[by_need])]
    chosen = chosen[np.cumsum(live[chosen]) <= 2 * fresh]
    return chosen if (rows - live)[chosen].sum() >= fresh else chosen[:0]


def name_of(client: Integers, round: Integers) -> str:
    """The name of a pack of these versions, (R,) each, which no pack of others has."""
    digest = hashlib.blake2b(np.stack([client, round]).astype("<i8").tobytes(), digest_size=8)
    return f"{int(round.max(initial=0)):06}-{digest.hexdigest()}.pack"


def _joined(parts: Sequence[NDArray[Any]]) -> Integers:
    return np.concatenate([np.zeros(0, dtype=np.int32), *(part.astype(np.int32) for part in parts)])
