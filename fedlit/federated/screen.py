"""Decides which of a cohort's answers can be averaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeGuard

from lightning.pytorch.utilities import rank_zero_warn

from fedlit.core.errors import ElsewhereError, InputError
from fedlit.core.ranks import gather_dict
from fedlit.core.records import Broadcast, ClientAnswer, ClientFailure, ClientUpdate, is_finite


class _Verdict(NamedTuple):
    """Whether a client's update counts, and the error if its fit failed."""

    passed: bool
    reason: str = ""
    traceback: str = ""


class Screen:
    """Rejects failed fits, and updates with NaN or infinite values, from a round's average.

    Args:
        max_rejected: Share of the answers that may be rejected, 0 to 1.
    """

    def __init__(self, max_rejected: float) -> None:
        self._max_rejected = max_rejected
        self._verdicts: dict[int, _Verdict] = {}

    def passes(self, answer: ClientAnswer) -> TypeGuard[ClientUpdate]:
        """Whether an answer is a finite update; the result is recorded for its client."""
        if isinstance(answer, ClientFailure):
            verdict = _Verdict(False, answer.reason, answer.traceback)
        else:
            verdict = _Verdict(is_finite(answer))
        self._verdicts[answer.task.client] = verdict
        return verdict.passed

    def reduce(self) -> None:
        """Gather over all ranks, so that all decide the same; does nothing in a single process."""
        self._verdicts = gather_dict(self._verdicts)

    @property
    def rejected(self) -> list[int]:
        """The rejected clients, in increasing order."""
        return sorted(client for client, verdict in self._verdicts.items() if not verdict.passed)

    def check(self, sent: Broadcast) -> None:
        """Warn of the rejected clients in the round of this broadcast.

        Raises:
            InputError: If they are more than ``max_rejected`` of those that answered, and none of their fits failed.
            ElsewhereError: If they are as many, and some fits failed; with the first traceback.
        """
        found = {k: self._verdicts[k].reason for k in self.rejected}
        failed = {k: reason for k, reason in found.items() if reason}
        diverged = {k: "" for k in found if k not in failed}
        total, round = len(self._verdicts), sent.round
        kinds = {
            f"{len(diverged)} of {total} updates of round {round + 1} are not finite": diverged,
            f"{len(failed)} of {total} fits of round {round + 1} failed": failed,
        }
        told = {share: _named(clients) for share, clients in kinds.items() if clients}
        if len(found) <= self._max_rejected * total:
            for share, clients in told.items():
                rank_zero_warn(f"{share} and were left out of the average: {clients}")
            return
        share = " and ".join(f"{share} ({clients})" for share, clients in told.items())
        allowed = f"{share}, more than federation.max_rejected = {self._max_rejected} allows"
        whole = "the checkpoint of the round before is complete"
        if failed:
            tracebacks = [self._verdicts[k].traceback for k in failed]
            first = next((text for text in tracebacks if text), "none, their processes died")
            raise ElsewhereError(f"{allowed}; correct the cause of the failures; {whole}. The first error:\n{first}")
        if not sent.weights.floats.isfinite().all():
            raise InputError(
                f"{allowed}; the model that they were sent is not finite either, after the server's step of round "
                f"{round}; lower the learning rate of model.server_optimizer or check federation.algorithm, and resume "
                "from a checkpoint of an earlier round"
            )
        raise InputError(
            f"{allowed}; lower the learning rate of model.client_optimizer or check these clients' data; {whole}"
        )


def _named(reasons: Mapping[int, str]) -> str:
    """Clients grouped by the reason of their failure: ``client 1, 4: MemoryError; client 2: ..``."""
    clients: dict[str, list[str]] = {}
    for client, reason in reasons.items():
        clients.setdefault(reason, []).append(str(client))
    return "; ".join(f"client {', '.join(k)}{reason and ': '}{reason}" for reason, k in clients.items())
