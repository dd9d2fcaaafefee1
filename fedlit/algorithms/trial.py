"""Tries out a user's own algorithm on made-up updates before the first round."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from fedlit.algorithms.aggregation import Aggregation
from fedlit.algorithms.algorithm import Algorithm, State
from fedlit.algorithms.chained import leaves
from fedlit.core.errors import InputError
from fedlit.core.layout import Layout, read_state
from fedlit.core.loadable import REMEDY, unsupported_part
from fedlit.core.origin import is_fedlit_class
from fedlit.core.records import Broadcast, ClientTask, ClientUpdate, Weights
from fedlit.core.seeding import global_rng_state, isolated_rng

#: Results of an algorithm's methods in the order of the calls: the method's name, and a copy of its result.
Results: TypeAlias = list[tuple[str, Any]]
#: The most clients and the most scalars of the made-up updates of a round, and the number of rounds.
CLIENTS, NUMBERS, ROUNDS = 16, 20_000_000, 2


def check_algorithm(algorithm: Algorithm, layout: Layout, net: nn.Module, tasks: Sequence[ClientTask]) -> None:
    """Run two made-up rounds, twice, with each algorithm that is not fedlit's own, and refuse it if it breaks a rule.

    An algorithm that raises an error on the made-up updates passes: the first round will show how it handles real ones.

    Args:
        algorithm: The algorithm, after ``prepare``.
        layout: The network's layout.
        net: The network as it is sent first.
        tasks: Tasks of clients that will train; without any nothing is tried.

    Raises:
        InputError: If a method returns another value for the same input (as it keeps state in an attribute), draws from
            a global generator, changes the broadcast model, gives a client a vector to keep without a ``kept_size``, or
            has a server state that a checkpoint cannot hold.
    """
    own = [part for part in leaves(algorithm) if not is_fedlit_class(part)]
    if not (own and tasks):
        return
    model = read_state(net, layout)
    tasks = tasks[: max(2, min(CLIENTS, NUMBERS // len(model.floats)))]
    for part in own:
        trial = _copied(part)
        with isolated_rng(0, model.floats.device), torch.no_grad():
            before = global_rng_state()
            try:
                first, again = (_play_rounds(trial, layout, model, tasks) for _ in range(2))
            except InputError:
                raise
            except Exception:  # any kind; real updates may not cause it
                continue
            drew = global_rng_state() != before
        if drew:
            raise InputError(
                f"{part.name} draws from a global generator, which ranks, worker processes and a resumed run do not "
                f'share; draw from fedlit.core.seeding.generator(self.facts.seed, "{part.name}", round)'
            )
        for (method, value), (_, other) in zip(first, again, strict=True):
            if not _same(value, other):
                raise InputError(
                    f"{part.name}.{method} returns another value each time for the same arguments, for example because "
                    "of an attribute, which worker processes and a resumed run do not share; let conclude return the "
                    "server's state, and end the vector that a client keeps"
                )


def _play_rounds(algorithm: Algorithm, layout: Layout, model: Weights, tasks: Sequence[ClientTask]) -> Results:
    """Run two rounds in which the same clients return made-up updates."""
    said: Results = []
    state: State = {}
    kept: dict[int, Tensor | None] = {}
    for round in range(tasks[0].round, tasks[0].round + ROUNDS):
        sent = Broadcast(model, (0.0,) * len(layout.trainable), algorithm.message(state, model), round)
        said.append(("message", sent.message.clone()))
        sent_floats = model.floats.clone()
        aggregation = Aggregation(algorithm, sent)
        for task in tasks:
            update = _update(algorithm, layout, sent, task._replace(round=round), kept.get(task.client), said)
            kept[task.client] = update.kept
            aggregation.add(update)
        average = aggregation.average()
        assert average is not None
        said.append(("transform", average.weights.floats.clone()))
        state, model = algorithm.conclude(state, sent, average)
        said.append(("conclude", copy.deepcopy([dict(state), model.floats])))
        if not torch.equal(sent_floats.nan_to_num(), sent.weights.floats.nan_to_num()):
            raise InputError(
                f"{algorithm.name} changes the model that was sent, from which other clients of the round start; "
                "change a copy instead, sent.weights.floats.clone()"
            )
        if found := unsupported_part(dict(state)):
            raise InputError(
                f"{algorithm.name}.conclude returns a state in which {found}, which a checkpoint cannot hold: it is "
                f"loaded as data; {REMEDY}"
            )
    return said


def _update(
    algorithm: Algorithm, layout: Layout, sent: Broadcast, task: ClientTask, kept: Tensor | None, said: Results
) -> ClientUpdate:
    """The update of a client whose parameters have changed by made-up numbers."""
    floats, size = sent.weights.floats, layout.num_trainable
    moves = 0.01 * torch.sin(torch.arange(size, device=floats.device) * (1.0 + task.client))
    ended = sent.weights._replace(floats=torch.cat([floats[:size] + moves, floats[size:]]))
    started, correction = algorithm.start(floats, kept), algorithm.begin(sent, kept)
    keeps = algorithm.end(sent, ended, task.steps, kept)
    said += [("start", copy.deepcopy(started)), ("begin", copy.deepcopy(correction)), ("end", copy.deepcopy(keeps))]
    if keeps is not None and not algorithm.kept_size:
        raise InputError(
            f"{algorithm.name}.end returns {len(keeps)} numbers to keep, but its kept_size is 0, so nothing is kept; "
            "override kept_size to return this number"
        )
    squares = [float(part.square().sum()) for part in layout.split_trainable(moves)]
    metrics = {"loss": 1.0, "accuracy": 0.5, "samples": float(task.num_examples), "proximal": 0.0}
    return ClientUpdate(task, ended, squares, metrics, keeps)


def _same(value: Any, other: Any) -> bool:
    """Whether values are equal up to the order of sums, which may vary on a GPU."""
    match value:
        case Tensor():
            return value.shape == other.shape and torch.allclose(value, other, rtol=1e-3, atol=1e-6, equal_nan=True)
        case dict():
            return value.keys() == other.keys() and all(_same(value[key], other[key]) for key in value)
        case list() | tuple():
            return len(value) == len(other) and all(map(_same, value, other))
        case _:
            return bool(value == other)


def _copied(algorithm: Algorithm) -> Algorithm:
    """A copy that shares the facts; the algorithm itself if it cannot be copied."""
    facts = vars(algorithm).get("facts")
    try:
        return copy.deepcopy(algorithm, {id(facts): facts})
    except Exception:  # for example because of a lock
        return algorithm
