"""Draws cohorts and their work, and checks the results, as samplings and models of stragglers may be a user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedlit.core.errors import InputError
from fedlit.core.origin import is_fedlit_class
from fedlit.core.records import ClientTask
from fedlit.data.partition import Partition
from fedlit.sampling import Draw, Sampling
from fedlit.stragglers import Stragglers


def draw_cohort(sampling: Sampling, partition: Partition, clients_per_round: int, seed: int, round: int) -> Draw:
    """Draw the cohort of a round (from 0), in increasing order of the clients.

    Raises:
        InputError: If the sampling does not return each drawn client once, with how often it was drawn.
    """
    given = sampling.draw(partition, clients_per_round, seed, round)
    try:
        clients, times = map(np.asarray, given)
        wrong = _draw_fault(clients, times, partition.num_clients)
    except (TypeError, ValueError):
        wrong = f"a {type(given).__name__}"
    if wrong:
        raise InputError(
            f"{type(sampling).__name__}.draw gives {wrong} for round {round + 1}; return a fedlit.sampling.Draw of the "
            "clients' numbers, each once, and of how often each was drawn"
        )
    order = np.argsort(clients)
    return Draw(clients[order].astype(np.int64), times[order].astype(np.int64))


def _draw_fault(clients: NDArray[Any], times: NDArray[Any], num_clients: int) -> str | None:
    if clients.ndim != 1 or times.shape != clients.shape:
        return f"clients of shape {clients.shape} and times of shape {times.shape}"
    if not clients.size:
        return None
    for name, values in (("clients", clients), ("times", times)):
        if not np.issubdtype(values.dtype, np.integer):
            return f"{name} of {values.dtype}"
    if clients.min() < 0 or clients.max() >= num_clients:
        return f"clients from {clients.min()} to {clients.max()}, where there are 0 to {num_clients - 1}"
    ordered = np.sort(clients)
    if (twice := ordered[1:][ordered[1:] == ordered[:-1]]).size:
        return f"client {twice[0]} more than once"
    return f"a client that was drawn {times.min()} times" if times.min() < 1 else None


def draw_work(
    stragglers: Stragglers, clients: NDArray[np.int64], epochs: float, seed: int, round: int
) -> NDArray[np.float64]:
    """The passes that each client of a cohort makes in a round (from 0), (K,).

    Raises:
        InputError: If the model of stragglers does not return a number from 0 to ``epochs`` for each client.
    """
    given = stragglers.work(clients.copy(), epochs, seed, round)  # a copy, which it may change
    wrong = None
    try:
        work = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        work, wrong = np.full(clients.shape, epochs), f"a {type(given).__name__}"
    if work.shape != clients.shape:
        wrong = f"numbers of shape {work.shape} for {len(clients)} clients"
    elif (outside := ~((work >= 0) & (work <= epochs))).any():
        wrong = f"{work[outside][0]} passes for client {clients[outside][0]}"
    if wrong:
        raise InputError(
            f"{type(stragglers).__name__}.work gives {wrong} in round {round + 1}; return a number for each client, "
            f"from 0, which drops it, to federation.local_epochs, which is {epochs}"
        )
    return work


def check_repeats(
    tasks_of: Callable[[int], list[ClientTask]], rounds: Iterable[int], sampling: Sampling, stragglers: Stragglers
) -> None:
    """Refuse cohorts that differ when they are drawn again, as ranks and a resumed run do.

    Args:
        tasks_of: From a round to the tasks of its cohort.
        rounds: The rounds to draw; several, as two draws of a few clients may be equal by chance.
        sampling: How the clients are drawn.
        stragglers: How much work each does.

    Raises:
        InputError: Naming the class whose draws do not depend on its arguments alone.
    """
    if is_fedlit_class(sampling) and is_fedlit_class(stragglers):
        return
    rounds = list(rounds)
    first, again = ([tasks_of(round) for round in rounds] for _ in range(2))
    for tasks, same in zip(first, again, strict=True):
        if found := _difference(tasks, same, sampling, stragglers):
            purpose = "stragglers" if found.endswith("work") else "cohort"
            raise InputError(
                f"{found} each time it is called for the same round, but ranks and a resumed run call it again; draw "
                f'from fedlit.core.seeding.rng(seed, "{purpose}", round), or another generator seeded by seed and round'
            )


def check_unchanged(
    trained: list[ClientTask], again: Callable[[], list[ClientTask]], sampling: Sampling, stragglers: Stragglers
) -> None:
    """Refuse a cohort that would be another one now, after its round, as a resumed run draws it again.

    Args:
        trained: The tasks of the round.
        again: Draws the tasks of the same round again; not called for fedlit's own classes.
        sampling: How the clients are drawn.
        stragglers: How much work each does.

    Raises:
        InputError: Naming the class whose draws depend on what it has learned since.
    """
    if is_fedlit_class(sampling) and is_fedlit_class(stragglers):
        return
    if found := _difference(trained, again(), sampling, stragglers):
        raise InputError(
            f"{found} for round {trained[0].round + 1} after it than before it, so it depends on what it learned in "
            "the run, such as losses, which a resumed run and other ranks lack; let it depend on seed and round alone"
        )


def _difference(
    first: list[ClientTask], second: list[ClientTask], sampling: Sampling, stragglers: Stragglers
) -> str | None:
    """What differs in two draws of a cohort, as the beginning of a message; None if they are the same."""
    if first == second:
        return None
    if [task.client for task in first] == [task.client for task in second]:
        return f"{type(stragglers).__name__}.work gives other work"
    return f"{type(sampling).__name__}.draw gives other clients"
