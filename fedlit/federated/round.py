"""A round as a function: from a broadcast and the tasks of a cohort to what the server steps towards."""

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
from fedlit.engines.engine import Engine
from fedlit.engines.site import Site
from fedlit.federated.meter import ATTENTION, RoundMeter
from fedlit.federated.screen import Screen


class RoundResult(NamedTuple):
    """The result of a round, the same on every rank.

    Attributes:
        target: The model that the server's optimizer steps towards; None where no client's update counts.
        state: The algorithm's state for the next round.
        metrics: What was measured of the fits, see ``RoundMeter``.
        rejected: The clients whose fit failed or whose update is not finite, in order.
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
        sent: The model, and what is sent with it.
        tasks: This rank's share of the cohort.
        client: The local problem.
        engine: What fits it.
        algorithm: What is done otherwise than in FedAvg, prepared.
        site: Where clients are trained.
        state: The algorithm's, from the round before; None in the first.
        blocks: From the name of a block of parameters, whose drift is measured apart, to a regular expression.
        max_rejected: Share of the clients, 0 to 1, that may be left out.
        listeners: Functions that are called with each answer as it comes, failures among them.
        store: The vectors that clients keep between rounds; None where the algorithm keeps none.

    Raises:
        InputError: When more clients than that gave updates that are not finite.
        RuntimeError: When more failed, with the first one's traceback.
    """
    updates = Aggregation(algorithm, sent)
    meter, screen = RoundMeter(sent.weights, client.layout, blocks), Screen(max_rejected)
    client.receive(sent)
    with torch.enable_grad(), store.keeping(sent.round) if store else nullcontext() as keep:
        for answer in engine.run(client, store.located(tasks) if store else tasks, site):
            if screen.passes(answer):
                if keep and answer.kept is not None:
                    keep(answer.task.client, answer.kept)
                updates.add(answer._replace(kept=None))  # it is on disk by now
                meter.add(answer)
            for listener in listeners:
                listener(answer)
    average = updates.average()
    for part in (meter, screen):
        part.reduce()
    screen.check(sent)
    state, target = state or {}, None
    if average is not None:
        state, target = algorithm.conclude(state, sent, average)
    return RoundResult(target, state, meter.summary(target or sent.weights), screen.rejected)
