"""The typed records that pass between server, engine and clients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from fedlit.core.packs import Row


class ClientTask(NamedTuple):
    """What the server asks of one client in one round.

    Attributes:
        client: The client's number, 0 to ``num_clients - 1``.
        round: The round's number, from 0.
        seed: The federation's seed: batch order and dropout are addressed by (seed, round, client).
        steps: Mini-batches to train; 0 for a client that is dropped. Whole epochs and fractions of one are both a
            number of steps.
        epochs: The same work in passes over the client's data.
        num_examples: The size n_k of the client's data.
        weight: The client's weight in the average, before normalisation.
        diagnose: Whether the client also measures gamma, how inexactly it solved its local problem.
        kept: The place on disk of the vector that the client kept in its last round; None before its first.
    """

    client: int
    round: int
    seed: int
    steps: int
    epochs: float
    num_examples: int
    weight: float
    diagnose: bool = False
    kept: Row | None = None


class Cohort(NamedTuple):
    """The clients of a round.

    Attributes:
        tasks: One for each, including those that are dropped.
        mine: The tasks that this rank trains.
    """

    tasks: list[ClientTask]
    mine: list[ClientTask]


class Weights(NamedTuple):
    """The state of a network, flat.

    Attributes:
        floats: (P,) trainable parameters, then frozen ones, then floating-point buffers.
        counts: (Q,) int64, the integer buffers (BatchNorm's ``num_batches_tracked``).
        flags: (F,) bool, the boolean buffers, such as masks.
    """

    floats: Tensor
    counts: Tensor
    flags: Tensor = torch.zeros(0, dtype=torch.bool)


class Broadcast(NamedTuple):
    """What the server sends to every client of a round.

    Attributes:
        weights: The global model w_t.
        mu: Strength of the proximal term for each trainable parameter, in the order of the layout.
        message: (E,) a vector that the algorithm sends as well, such as SCAFFOLD's control variate; empty for most.
        round: The round's number, from 0.
        rate: What clients multiply their learning rate by in this round, more than 0.
    """

    weights: Weights
    mu: tuple[float, ...]
    message: Tensor
    round: int = 0
    rate: float = 1.0


class ClientUpdate(NamedTuple):
    """What a client sends back.

    Attributes:
        task: The task that was fitted.
        weights: The client's network after its fit.
        squares: ||w_k - w_t||^2 of each trainable tensor, in the order of the layout, (L,).
        metrics: Scalars of the fit: ``loss`` and ``accuracy``, means over the ``samples`` that it trained on,
            ``proximal``; where measured also ``gamma`` and ``own_accuracy``.
        kept: The vector that the client keeps until its next round, (kept_size,), float32; None for none.
    """

    task: ClientTask
    weights: Weights
    squares: Sequence[float]
    metrics: Mapping[str, float]
    kept: Tensor | None = None


def is_finite(update: ClientUpdate) -> bool:
    """Whether an update can be averaged: all floats of its weights and its mean loss are finite numbers."""
    # The minimum and maximum are NaN if any value is. They take one pass, a tenth of the time of isfinite.
    extremes = update.weights.floats.aminmax()
    return all(map(math.isfinite, (*map(float, extremes), update.metrics["loss"])))


class ClientFailure(NamedTuple):
    """What an engine returns in place of an update if a client's fit failed.

    Attributes:
        task: The task that failed.
        reason: The error in one line, such as ``ValueError: a bad sample``.
        traceback: The error's traceback as Python prints it; empty if the process died.
    """

    task: ClientTask
    reason: str
    traceback: str = ""


#: The result of a task.
ClientAnswer: TypeAlias = ClientUpdate | ClientFailure
