"""The engine that trains at real sites."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lightning import Trainer

from fedlit.clients.client import ClientModule
from fedlit.core.errors import InputError
from fedlit.core.ranks import is_distributed
from fedlit.core.records import ClientAnswer, ClientFailure, ClientTask
from fedlit.engines.engine import Engine
from fedlit.engines.loop import LoopEngine
from fedlit.engines.site import Site
from fedlit.federated.loop import FederatedLoop
from fedlit.flower.frame import MOST_HEADER, SIZE_OF, Frame, WireError, pack
from fedlit.flower.identity import identity
from fedlit.flower.link import NoAnswerError
from fedlit.flower.sites import ELSEWHERE, Sites
from fedlit.flower.vectors import NAME_OF
from fedlit.flower.wire import METRICS, Receipt, task_frame, update_in

#: If a site is missing, wait at most this long for nodes that have connected since the last round.
GREETING_SECONDS = 60.0


class FlowerEngine(Engine):
    """Asks the sites of ``fedlit.flower.Sites`` over Flower to train, and yields the answers as they arrive.

    A site that is not connected, is late, or sends an error or an invalid answer becomes a ``ClientFailure`` with the
    reason, and is left out of the round, see ``federation.max_rejected``.

    Args:
        timeout_s: Seconds that sites have for a round, at least 1. Later answers are discarded.
    """

    def __init__(self, timeout_s: float = 3600.0) -> None:
        if not 1 <= timeout_s < 1e9:
            raise InputError(f"timeout_s must be at least 1, got {timeout_s}; 3600 is the default")
        self.timeout_s = timeout_s

    def check(self, client: ClientModule, site: Site) -> None:
        data = _sites(site)
        if is_distributed():
            raise InputError("FlowerEngine runs in one process only; set trainer.devices and trainer.num_nodes to 1")
        LoopEngine().check(client, site)  # the engine at the sites
        loop = _loop(data)
        if loop.diagnostics is not None and loop.diagnostics.dissimilarity:
            raise InputError(
                "federation.diagnostics.dissimilarity needs the gradients of all clients at one model, but sites only "
                "train; set it to false, gamma and drift by block are still measured"
            )
        data.refuse_others(identity(client))

    def run(self, client: ClientModule, tasks: Sequence[ClientTask], site: Site) -> Iterator[ClientAnswer]:
        if not tasks:
            return
        data, sent = _sites(site), client.broadcast
        of_site = {data.sites[task.client]: task for task in tasks}
        store = _loop(data).session.store
        checkpoints = _loop(data).saved_rounds.of(_trainer(data)) if store else []
        data.link.look_again(min(self.timeout_s, GREETING_SECONDS))

        def question(task: ClientTask) -> bytes:
            kept = Receipt.read(task.kept.read()) if task.kept else Receipt()
            rows = [store.find([task.client], finished)[0] for finished in checkpoints] if store else []
            needed = {kept.round, *(Receipt.read(row.read()).round for row in rows if row)} - {-1}
            arguments = data.federation, str(site.precision.precision), kept, sorted(needed)
            return pack(task_frame(task, sent, data.terms, *arguments))

        def read(name: str, frame: Frame) -> ClientAnswer:
            echo = {"federation": data.federation, "data": str(data.link.introductions[name]["data"])}
            return update_in(frame, of_site[name], sent, echo, data.batch_size)

        questions = ((name, question(task)) for name, task in of_site.items())
        for name, answer in data.link.ask(questions, sent.round, self.timeout_s, _longest(client)):
            yield _read(read, name, answer, of_site[name])


def _read(
    read: Callable[[str, Frame], ClientAnswer], name: str, answer: Frame | NoAnswerError, task: ClientTask
) -> ClientAnswer:
    """A site's answer as an update, or as a failure that names the site."""
    try:
        if isinstance(answer, NoAnswerError):
            raise answer
        return read(name, answer)
    except (NoAnswerError, WireError) as error:
        reason = f"site {name}: {error}"
        return ClientFailure(task, reason, reason)


def _longest(client: ClientModule) -> int:
    """The length of the longest answer to a round's question, in bytes."""
    weights = sum(len(part) * SIZE_OF[NAME_OF[part.dtype]] for part in client.broadcast.weights)
    return weights + 8 * (len(client.layout.trainable) + len(METRICS)) + MOST_HEADER + 64


def _sites(site: Site) -> Sites:
    if not isinstance(site.data, Sites):
        raise InputError(
            f"FlowerEngine trains at real sites, but the data are {type(site.data).__name__}; use fedlit.flower.Sites"
        )
    return site.data


def _trainer(data: Sites) -> Trainer:
    if not isinstance(data.trainer, Trainer):
        raise InputError(ELSEWHERE)
    return data.trainer


def _loop(data: Sites) -> FederatedLoop:
    callbacks = _trainer(data).callbacks  # type: ignore[attr-defined]
    return next(callback for callback in callbacks if isinstance(callback, FederatedLoop))
