"""Converts the records of a round to frames and back; received values are checked before they are used."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedlit.core.limits import COUNT_MAX
from fedlit.core.records import Broadcast, ClientTask, ClientUpdate, Weights, is_finite
from fedlit.flower.frame import Blob, Frame, Value, WireError
from fedlit.flower.kinds import STATE, STATISTICS, TASK, TERMS, UPDATE
from fedlit.flower.vectors import blob_of, counts, list_of, numbers, tensor_of

#: Metrics of a fit and their largest allowed values; except for the loss, none may be below 0.
METRICS = {
    "loss": math.inf,
    "accuracy": 1.0,
    "proximal": math.inf,
    "samples": math.inf,
    "skipped_steps": math.inf,
    "own_accuracy": 1.0,
    "gamma": math.inf,
}
#: Metrics that every fit has.
ALWAYS = ("loss", "accuracy", "proximal", "samples")
#: A receipt stores the round in float32, which is exact below this number.
MOST_ROUNDS = 1 << 24


class Terms(NamedTuple):
    """The server's settings of the federation, the same for all sites.

    Attributes:
        batch_size: Examples in a training batch.
        client_holdout: Fraction of each site's examples that are held out.
        data_seed: Seed of the draw of held-out examples.
        classes: Names of the classes, (C,).
        channels: Channels of the inputs.
        clients: Number of sites.
        mean: Mean for the normalisation of pixels, one number or one for each channel, in units of [0, 1].
        std: Standard deviation, like ``mean``.
    """

    batch_size: int
    client_holdout: float
    data_seed: int
    classes: list[str]
    channels: int
    clients: int
    mean: float | Sequence[float]
    std: float | Sequence[float]

    def parts(self) -> tuple[dict[str, Value], dict[str, Blob]]:
        """The terms as values and blobs of a frame."""
        values = {name: value for name, value in self._asdict().items() if name in TERMS}
        values["single"] = [name for name in STATISTICS if isinstance(getattr(self, name), float)]
        return values, {name: numbers(np.atleast_1d(getattr(self, name))) for name in STATISTICS}


class Receipt(NamedTuple):
    """The server's record of the valid version of what a client keeps; the vector itself stays at the site.

    Attributes:
        round: The round, from 0, in which it was kept; -1 is none.
        crc: The CRC-32 of its bytes; -1 is none.
    """

    round: int = -1
    crc: int = -1

    def vector(self) -> Tensor:
        """The receipt as a vector (3,) that the server's client store can hold; each number is exact in float32."""
        return torch.tensor([self.round, self.crc >> 16, self.crc & 0xFFFF], dtype=torch.float32)

    @classmethod
    def read(cls, vector: Tensor) -> Receipt:
        """The receipt in a vector."""
        round, high, low = (int(number) for number in vector.tolist())
        return cls(round, high << 16 | low)


def task_frame(
    task: ClientTask,
    sent: Broadcast,
    terms: Terms,
    federation: str,
    precision: str,
    kept: Receipt,
    needed: Iterable[int],
) -> Frame:
    """The question to a site in a round.

    Args:
        task: The client's task.
        sent: The broadcast to all clients.
        terms: The terms of the federation.
        federation: The name of the federation.
        precision: The precision of the training.
        kept: The version of what the client keeps from which it starts.
        needed: Rounds whose versions of what the client keeps are still needed.
    """
    asked = {name: getattr(task, name) for name in ("client", "round", "seed", "steps", "diagnose")}
    more: dict[str, Value] = {"examples": task.num_examples, "kept": kept.round, "crc": kept.crc}
    more |= {"federation": federation, "rate": float(sent.rate), "precision": precision}
    values, statistics = terms.parts()
    blobs = {
        **statistics,
        **{name: blob_of(getattr(sent.weights, name)) for name in STATE},
        **{"message": blob_of(sent.message), "mu": numbers(sent.mu), "needed": counts(needed)},
    }
    return Frame(TASK.name, {**values, **asked, **more}, blobs)


def terms_in(frame: Frame) -> Terms:
    """The terms in a question of the server.

    Raises:
        WireError: If one of them is out of range.
    """
    values = frame.values
    known: dict[str, Any] = {name: values[name] for name in TERMS if name != "single"}
    found = {name: list_of(frame.blobs[name]) for name in STATISTICS}
    for name, numbers_ in found.items():
        _require(len(numbers_) in (1, known["channels"]) and all(map(math.isfinite, numbers_)), name, numbers_)
        known[name] = numbers_[0] if name in values["single"] else numbers_  # type: ignore[operator]
    _require(all(number > 0 for number in found["std"]), "std", found["std"])
    _require(known["batch_size"] >= 1, "batch_size", known["batch_size"])
    _require(0 <= known["client_holdout"] < 1, "client_holdout", known["client_holdout"])
    _require(len(known["classes"]) >= 2, "classes", len(known["classes"]))
    _require(known["channels"] >= 1, "channels", known["channels"])
    _require(1 <= known["clients"] <= COUNT_MAX, "clients", known["clients"])
    return Terms(**known)


def task_in(
    frame: Frame, like: Weights, message: Tensor, trainable: int, most_steps: int
) -> tuple[ClientTask, Broadcast]:
    """The task and broadcast in a frame.

    Args:
        frame: A frame of kind ``TASK``.
        like: A state of the site's own network, for types, lengths and device.
        message: The algorithm's message before the first round, for its type, length and device.
        trainable: Number of the network's trainable tensors.
        most_steps: The largest number of steps that the site does in a round.

    Raises:
        WireError: If something does not fit the site's network, or the task is larger than the site allows.
    """
    values, blobs = frame.values, frame.blobs
    asked = {name: values[name] for name in ("client", "round", "seed", "steps", "diagnose")}
    task = ClientTask(**asked, epochs=0.0, num_examples=int(values["examples"]), weight=0.0)  # type: ignore[arg-type]
    _require(0 <= task.round < MOST_ROUNDS, "round", task.round)
    if not 1 <= task.steps <= most_steps:
        raise WireError(f"the server asks for {task.steps:,} steps, but this site does at most {most_steps:,}")
    weights = Weights(*(tensor_of(name, blobs[name], getattr(like, name)) for name in STATE))
    mu = tuple(list_of(blobs["mu"]))
    if len(mu) != trainable or not all(0 <= each < math.inf for each in mu):
        raise WireError(f"mu must have {trainable} numbers >= 0, one for each trainable tensor, got {len(mu)} numbers")
    rate = float(values["rate"])  # type: ignore[arg-type]
    _require(0 < rate < math.inf, "rate", rate)
    return task, Broadcast(weights, mu, tensor_of("message", blobs["message"], message), task.round, rate)


def update_frame(update: ClientUpdate, federation: str, data: str, crc: int) -> Frame:
    """The answer of a site.

    Args:
        update: The result of its training.
        federation: The name of the federation in the task.
        data: The hash of its examples.
        crc: The checksum of what the client keeps; -1 is none.
    """
    measured = [name for name in METRICS if name in update.metrics]
    values: dict[str, Value] = {"federation": federation, "client": update.task.client, "round": update.task.round}
    values |= {"data": data, "crc": crc, "measured": [*measured]}
    blobs = {name: blob_of(getattr(update.weights, name)) for name in STATE}
    blobs |= {"squares": numbers(update.squares), "metrics": numbers(update.metrics[name] for name in measured)}
    return Frame(UPDATE.name, values, blobs)


def update_in(
    frame: Frame, task: ClientTask, sent: Broadcast, echo: Mapping[str, str], batch_size: int
) -> ClientUpdate:
    """A site's answer as the update for its task.

    Args:
        frame: A frame of kind ``UPDATE``.
        task: The client's task.
        sent: The broadcast that was sent.
        echo: The federation's name and the hash of the site's examples, which the answer must repeat.
        batch_size: Examples in a training batch.

    Returns:
        The update, which need not be finite, see ``fedlit.core.records.is_finite``. If the client keeps a vector,
        ``kept`` is its receipt.

    Raises:
        WireError: If the answer does not belong to this task, or is impossible.
    """
    values = frame.values
    for name, asked in {**echo, "client": task.client, "round": task.round}.items():
        if values[name] != asked:
            raise WireError(f"its {name} is {values[name]!r}, but the task has {asked!r}")
    weights = Weights(*(tensor_of(name, frame.blobs[name], getattr(sent.weights, name)) for name in STATE))
    squares, found = list_of(frame.blobs["squares"]), list_of(frame.blobs["metrics"])
    metrics = _metrics(values["measured"], found)  # type: ignore[arg-type]
    if len(squares) != len(sent.mu):
        raise WireError(f"squares has {len(squares)} numbers, not {len(sent.mu)}")
    crc = int(values["crc"])  # type: ignore[arg-type]
    _require(-1 <= crc < 1 << 32, "crc", crc)
    kept = Receipt(task.round, crc).vector() if crc >= 0 else None
    update = ClientUpdate(task, weights, squares, metrics, kept)
    if is_finite(update):
        _check_measurements(update, batch_size)
    return update


def samples_of(task: ClientTask, batch_size: int) -> int:
    """The number of examples in the steps of a task."""
    passes, rest = divmod(task.steps, -(-task.num_examples // batch_size))
    return passes * task.num_examples + min(rest * batch_size, task.num_examples)


def _metrics(names: Sequence[str], found: Sequence[float]) -> dict[str, float]:
    if len(names) != len(found) or len({*names}) < len(names) or not {*ALWAYS} <= {*names} <= METRICS.keys():
        raise WireError(f"its metrics are {', '.join(names)[:100] or 'none'}; required are {', '.join(ALWAYS)}")
    return dict(zip(names, found, strict=True))


def _check_measurements(update: ClientUpdate, batch_size: int) -> None:
    if not all(0 <= square < math.inf for square in update.squares):
        raise WireError("its squares are not all finite numbers >= 0")
    for name, value in update.metrics.items():
        unknown = name == "gamma" and math.isnan(value)  # for a client whose gradient was zero
        least = -math.inf if name == "loss" else 0  # a custom loss may be negative
        if not unknown and not (least <= value <= METRICS[name] and math.isfinite(value)):
            raise WireError(f"its {name} is {value}, which is out of range")
    if update.metrics["samples"] != (samples := samples_of(update.task, batch_size)):
        raise WireError(f"it trained on {update.metrics['samples']:g} samples, but the task has {samples}")


def _require(holds: bool, name: str, value: object) -> None:
    if not holds:
        raise WireError(f"{name} is out of range: {str(value)[:60]}")
