"""Records the random draws of a run: which clients took part, how often, and their batch order."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from fedlit.core.errors import InputError
from fedlit.core.files import atomic_write, read_object
from fedlit.core.tables import write_table
from fedlit.data.module import FederatedData, data_of
from fedlit.federated.loop import FederatedLoop
from fedlit.federated.module import FederatedModule

PARTICIPATION = "participation.csv"
DRAWS = "draws.json"


class Participation(Callback):
    """Writes into the run folder at the end: ``participation.csv``, a row for each client, and ``draws.json``.

    The latter has hashes of partition, participation and batch order, which are equal if two runs shared them.

    Args:
        folder: The run's folder; None writes nothing, as on ranks other than the first.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = self._folder
        if folder is None or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, FederatedModule)
        loop, data, rounds = pl_module.loop, data_of(trainer), trainer.global_step
        table = participation(loop, data, rounds)
        columns = (column.tolist() for column in table.values())
        write_table(folder / PARTICIPATION, list(table), zip(*columns, strict=True))
        hashes = {
            "partition": data.partition.hash,
            "participation": hashlib.blake2b((folder / PARTICIPATION).read_bytes(), digest_size=8).hexdigest(),
            "batch order": batch_order(loop, data, rounds),
        }
        with atomic_write(folder / DRAWS) as file:
            file.write(json.dumps(hashes, indent=2) + "\n")


def draws_of(run: Path) -> dict[str, str]:
    """The hashes in a run's ``draws.json`` by name; empty for a run that has not finished."""
    with suppress(InputError):
        return read_object(run / DRAWS)
    return {}


def batch_order(loop: FederatedLoop, data: FederatedData, rounds: int) -> str:
    """16 hex digits, equal for two runs if all their clients trained on the same samples in the same batches and order.

    Orders are functions of (seed, round, client, epoch), so they are drawn again here instead of recorded during
    training; this takes about 30 us for each client and round.
    """
    digest = hashlib.blake2b(digest_size=8)
    for task in (task for round in range(rounds) for task in loop.cohort(round, data) if task.steps):
        try:
            batches = data.client_batches(task.client, task.round, task.seed)
        except Exception:  # the client's fit failed too, and was left out
            digest.update(f"{task.round}/{task.client}/unread/".encode())
            continue
        assert batches.order is not None
        assert batches.indices is not None
        digest.update(f"{task.round}/{task.client}/{task.steps}/{batches.batch_size}/".encode())
        for epoch, done in enumerate(range(0, task.steps, len(batches))):
            rows = batches.indices[batches.order(epoch)]  # (n_k,)
            digest.update(rows[: (task.steps - done) * batches.batch_size].numpy().astype("<i8").tobytes())
    return digest.hexdigest()


def participation(loop: FederatedLoop, data: FederatedData, rounds: int) -> dict[str, NDArray[Any]]:
    """What each client did in the first ``rounds`` rounds, computed again from (seed, round).

    Returns:
        Columns with an entry for each ``client``: its ``samples`` n_k and share ``p_k`` = n_k / n; the number of rounds
        in which it was ``drawn``, was ``dropped`` or did ``partial`` work; the passes over its data that were asked
        for, ``epochs_asked``, and made, ``epochs_done``; and ``share_of_work``, its share of all processed samples,
        which equals p_k if no client is favoured. Work whose result was rejected is included; ``round/rejected`` counts
        it.
    """
    sizes = data.partition.sizes
    tasks = [task for round in range(rounds) for task in loop.cohort(round, data)]
    client = np.array([task.client for task in tasks], dtype=np.int64)
    epochs = np.array([task.epochs for task in tasks])
    dropped = np.array([task.steps == 0 for task in tasks], dtype=bool)

    def sums(of_each: NDArray[Any]) -> NDArray[Any]:
        found = np.bincount(client, of_each, minlength=len(sizes))
        return found if np.issubdtype(of_each.dtype, np.floating) else found.astype(np.int64)

    done = sums(epochs)
    work = done * sizes
    return {
        "client": np.arange(len(sizes)),
        "samples": sizes,
        "p_k": sizes / sizes.sum(),
        "drawn": sums(np.ones_like(client)),
        "dropped": sums(dropped),
        "partial": sums(~dropped & (epochs < loop.local_epochs)),
        "epochs_asked": sums(np.full(len(tasks), loop.local_epochs)),
        "epochs_done": done,
        "share_of_work": work / max(work.sum(), 1),
    }
