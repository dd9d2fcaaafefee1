"""System heterogeneity: clients that do only a part of their work, or none of it."""

from __future__ import annotations

import csv
import math
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedlit.core.errors import InputError
from fedlit.core.files import require_regular
from fedlit.core.messages import one_line
from fedlit.core.seeding import address, rng


class Stragglers(ABC):
    """How much of its work each client of a cohort does. Subclass it and name the class path in YAML.

    Draws are addressed by (seed, round), so methods compared at one seed have the same stragglers (Li et al. 2020,
    Section 5.1). Work is counted in passes over a client's data; a fraction of a pass is a number of mini-batches.
    """

    @abstractmethod
    def work(self, clients: NDArray[np.int64], epochs: float, seed: int, round: int) -> NDArray[np.float64]:
        """Number of passes of each client, (K,): at most ``epochs``, and 0 for a client that is dropped.

        Args:
            clients: The cohort, (K,).
            epochs: The full work of E passes, more than 0.
            seed: The federation's seed.
            round: The round's number, from 0.
        """

    def check(self, num_clients: int) -> None:  # noqa: B027
        """Check, before training, that the model fits the federation.

        Raises:
            InputError: Naming the value that does not fit.
        """


class NoStragglers(Stragglers):
    """Every client does all of its work."""

    def work(self, clients: NDArray[np.int64], epochs: float, seed: int, round: int) -> NDArray[np.float64]:
        return np.full(len(clients), float(epochs))


class PartialWork(Stragglers):
    """A share of each round's cohort does fewer epochs: Li et al. 2020, Section 5.2 and Appendix C.2.

    A straggler makes a number of passes drawn uniformly from 1..E, as in the paper (its published code draws from
    1..E-1). For E up to 1 it does a fraction of a pass drawn uniformly from (0, E]. FedAvg drops stragglers, FedProx
    aggregates their partial work.

    Args:
        fraction: Share of stragglers in a cohort, in [0, 1], rounded to whole clients; the paper has 0, 0.5 and 0.9.
        drop: Whether stragglers are dropped rather than aggregated.
    """

    def __init__(self, fraction: float = 0.5, drop: bool = False) -> None:
        self.fraction = _share("fraction", fraction)
        self.drop = drop

    def work(self, clients: NDArray[np.int64], epochs: float, seed: int, round: int) -> NDArray[np.float64]:
        draw = rng(seed, "stragglers", round)
        slow = draw.choice(len(clients), math.floor(self.fraction * len(clients) + 0.5), replace=False)
        if epochs > 1:
            done = draw.integers(1, math.floor(epochs), len(slow), endpoint=True).astype(float)
        else:
            done = epochs * (1 - draw.random(len(slow)))
        result = np.full(len(clients), float(epochs))
        result[slow] = 0.0 if self.drop else done
        return result


class FixedSlow(Stragglers):
    """The same clients are slow in every round, like weak devices.

    Args:
        fraction: Probability that a client is slow, in [0, 1].
        share: Share of its work that a slow client does, in [0, 1]; 0 drops it.
    """

    def __init__(self, fraction: float = 0.5, share: float = 0.5) -> None:
        self.fraction = _share("fraction", fraction)
        self.share = _share("share", share)

    def work(self, clients: NDArray[np.int64], epochs: float, seed: int, round: int) -> NDArray[np.float64]:
        slow = np.array([address(seed, "slow", int(client)) < self.fraction * 2**63 for client in clients])
        return np.where(slow, self.share * epochs, epochs)


class Trace(Stragglers):
    """Work as recorded in a CSV file; its columns are ``client``, ``round`` (from 1) and ``epochs``.

    A client that has no line for a round does its full work; larger values are cut to the full work; 0 drops it.

    Args:
        path: The file.

    Raises:
        InputError: If the file cannot be read, naming the line.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._epochs = _read_trace(Path(path))

    def check(self, num_clients: int) -> None:
        unknown = sorted({client for client, _ in self._epochs if client >= num_clients})
        if unknown:
            raise InputError(
                f"{self.path} names client {unknown[0]} but there are {num_clients} clients, 0 to {num_clients - 1}; "
                "correct the file or raise data.num_clients"
            )

    def work(self, clients: NDArray[np.int64], epochs: float, seed: int, round: int) -> NDArray[np.float64]:
        recorded = [self._epochs.get((int(client), round + 1), epochs) for client in clients]
        return np.minimum(recorded, float(epochs))


def _read_trace(path: Path) -> dict[tuple[int, int], float]:
    """Epochs by (client, round)."""
    try:
        lines = require_regular(path).read_text(encoding="utf-8-sig").splitlines()
        rows = csv.DictReader(lines)
        table = [(rows.line_num, row) for row in rows]
    except (OSError, ValueError, csv.Error) as error:  # ValueError: not UTF-8, or a zero byte in the path
        raise InputError(
            f"cannot read the trace {path}: {one_line(str(error), 200)}; give a CSV of client, round, epochs"
        ) from error
    if sorted(rows.fieldnames or ()) != ["client", "epochs", "round"]:
        columns = one_line(", ".join(rows.fieldnames or ("none",)), 200)
        raise InputError(f"{path} has the columns {columns}; give it the columns client, round, epochs")
    trace: dict[tuple[int, int], float] = {}
    for line, row in table:
        if None in row or None in row.values():
            raise InputError(f"{path}, line {line}: not three values; give client, round, epochs")
        try:
            client, number, epochs = int(row["client"]), int(row["round"]), float(row["epochs"])
        except (TypeError, ValueError) as error:
            said = one_line(str(error), 200)
            raise InputError(f"{path}, line {line}: {said}; give whole numbers for client and round") from error
        if client < 0 or number < 1 or not 0 <= epochs < math.inf:
            raise InputError(
                f"{path}, line {line}: client {client}, round {number}, epochs {epochs}; "
                "clients count from 0, rounds from 1, and epochs are 0 or more"
            )
        if (client, number) in trace:
            raise InputError(
                f"{path}, line {line}: client {client} has a line for round {number} already; keep one of them"
            )
        trace[client, number] = epochs
    return trace


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise InputError(f"{name} must be in [0, 1], got {value}; 0.5 is half")
    return value
