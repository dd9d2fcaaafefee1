"""Checks the answers of a user's engine: one update or failure for each task, and an unchanged broadcast."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch

from fedlit.clients.client import ClientModule
from fedlit.core.errors import InputError
from fedlit.core.origin import is_fedlit_class
from fedlit.core.records import ClientAnswer, ClientFailure, ClientTask, ClientUpdate, Weights
from fedlit.engines.engine import Engine
from fedlit.engines.site import Site


def answers(engine: Engine, client: ClientModule, tasks: Sequence[ClientTask], site: Site) -> Iterator[ClientAnswer]:
    """The answers of an engine to a round's tasks, as they come; those of a user's engine are checked.

    Raises:
        InputError: If a task has no answer or several, if there is an answer without a task, if weights have the wrong
            shape or share memory with the previous ones, or if the engine changes the broadcast.
    """
    own = users_engine(engine)
    return engine.run(client, tasks, site) if own is None else _checked(type(own).__name__, engine, client, tasks, site)


def users_engine(engine: Engine) -> Engine | None:
    """The engine of a user's class, this one or the one that it runs in worker processes; None if there is none."""
    both = (engine, getattr(engine, "engine", engine))
    return next((each for each in both if not is_fedlit_class(each)), None)


def _checked(
    name: str, engine: Engine, client: ClientModule, tasks: Sequence[ClientTask], site: Site
) -> Iterator[ClientAnswer]:
    sent = client.broadcast.weights
    before = Weights(*(part.clone() for part in sent))
    found: object = engine.run(client, tasks, site)
    if not isinstance(found, Iterable):
        raise InputError(f"{name}.run returns a {type(found).__name__}; let it yield a ClientUpdate for each task")
    open_tasks = {task.client: task for task in tasks}
    last: ClientUpdate | None = None  # kept alive, so that the next one cannot get its memory
    for answer in found:
        if not isinstance(answer, ClientUpdate | ClientFailure):
            raise InputError(f"{name}.run yields a {type(answer).__name__}; yield a ClientUpdate or a ClientFailure")
        if open_tasks.pop(answer.task.client, None) != answer.task:
            raise InputError(
                f"{name}.run yields an answer to {answer.task}, which is no task of this round or has an answer "
                "already; yield one answer for each task, with the task itself in it"
            )
        if isinstance(answer, ClientUpdate):
            _check_weights(name, answer, sent, last)
            last = answer
        yield answer
    if open_tasks:
        raise InputError(
            f"{name}.run yields no answer for client {', '.join(map(str, sorted(open_tasks)))}; yield a ClientUpdate "
            "for each task, or a ClientFailure if its fit fails"
        )
    if not all(torch.equal(now, then) for now, then in zip(sent, before, strict=True)):
        raise InputError(
            f"{name}.run writes to client.broadcast.weights, from which all clients of the round start; write to a copy"
        )


def _check_weights(name: str, update: ClientUpdate, sent: Weights, last: ClientUpdate | None) -> None:
    has, wanted = ([tuple(part.shape) for part in weights] for weights in (update.weights, sent))
    client, floats = update.task.client, update.weights.floats
    if has != wanted:
        raise InputError(
            f"{name}.run yields weights of shapes {has} for client {client}, but the network has {wanted}; yield what "
            "client.finish returns"
        )
    if last is not None and floats.data_ptr() == last.weights.floats.data_ptr():
        raise InputError(
            f"{name}.run yields the weights of client {client} in the memory of those of client {last.task.client}, "
            "which some averages need until the end of the round; yield a new tensor"
        )
