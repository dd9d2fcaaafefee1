"""A round as a function: from a broadcast and the tasks of a cohort to the target of the server's step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch

from fedlit.algorithms.aggregation import Aggregation
from fedlit.algorithms.algorithm import Algorithm, State
from fedlit.clients.client import ClientModule
from fedlit.clients.store import ClientStore
from fedlit.core.records import Broadcast, ClientAnswer, ClientTask, Weights
from fedlit.engines.answers import answers
from fedlit.engines.engine import Engine
from fedlit.engines.site import Site
from fedlit.federated.meter import ATTENTION, RoundMeter
from fedlit.federated.screen import Screen


class RoundResult(NamedTuple):
    """The result of a round, the same on every rank.

    Attributes:
        target: The model that the server's optimizer steps towards; None without any accepted update.
        state: The algorithm's state for the next round.
        metrics: Metrics of the fits, see ``RoundMeter``.
        rejected: The clients whose fit failed or whose update is not finite, in increasing order.
    """

    target: Weights | None
    state: State
    metrics: Mapping[str, float]
    rejected: Sequence[int]


def run_round(
    sent: Broadcast,
    tasks: Sequence[ClientTask],
    client: ClientModule,
    engine: Engine,
    algorithm: Algorithm,
    site: Site,
    *,
    state: State | None = None,
    blocks: Mapping[str, str] = ATTENTION,
    max_rejected: float = 0.5,
    listeners: Iterable[Callable[[ClientAnswer], None]] = (),
    store: ClientStore | None = None,
) -> RoundResult:
    """Fit the cohort from the broadcast model and average what comes back.

    Args:
        sent: This round's broadcast.
        tasks: This rank's share of the cohort.
        client: The local problem.
        engine: The engine that trains clients.
        algorithm: The algorithm, after ``prepare``.
        site: Data, device and precision.
        state: The algorithm's state after the previous round; None in the first round.
        blocks: From the name of a block of parameters, whose drift is measured separately, to a regular expression.
        max_rejected: Share of the clients, 0 to 1, that may be rejected.
        listeners: Functions that are called with each answer as it arrives, including failures.
        store: The vectors that clients keep between rounds; None if the algorithm keeps none.

    Raises:
        InputError: If more clients than that are rejected, and none of their fits failed.
        ElsewhereError: If more clients than that are rejected, and some fits failed; with the first traceback.
    """
    updates = Aggregation(algorithm, sent)
    meter, screen = RoundMeter(sent.weights, client.layout, blocks, sent.message), Screen(max_rejected)
    client.receive(sent)
    with torch.enable_grad(), store.keeping(sent.round) if store else nullcontext() as keep:
        for answer in answers(engine, client, store.located(tasks) if store else tasks, site):
            if screen.passes(answer):
                if keep and answer.kept is not None:
                    keep(answer.task.client, answer.kept)
                updates.add(answer._replace(kept=None))  # it is on disk already
                meter.add(answer)
            for listener in listeners:
                listener(answer)
    average = updates.average()
    del updates  # its sums take the memory of four models
    for part in (meter, screen):
        part.reduce()
    screen.check(sent)
    state, target = state or {}, None
    if average is not None:
        state, target = algorithm.conclude(state, sent, average)
    return RoundResult(target, state, meter.summary(target or sent.weights), screen.rejected)
