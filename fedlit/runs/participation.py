"""What was drawn for a run: who took part, how often against its share of the data, and in which order it trained."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from lightning import Callback, LightningModule, Trainer

from fedlit.federated.loop import FederatedLoop
from fedlit.federated.module import FederatedModule
from fedlit.federated.records import ClientTask

if TYPE_CHECKING:
    import pandas as pd

PARTICIPATION = "participation.csv"
DRAWS = "draws.json"


class Participation(Callback):
    """Writes into the run folder at the end: ``participation.csv``, a row for each client, and ``draws.json``.

    The latter has hashes of partition, participation and batch order, equal where two runs shared them.
    """

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = trainer.log_dir
        if folder is None or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, FederatedModule)
        loop, rounds = pl_module.loop, trainer.global_step
        table = participation(loop, rounds).to_csv(index=False)
        hashes = {
            "partition": loop.data.partition.hash,
            "participation": hashlib.blake2b(table.encode(), digest_size=8).hexdigest(),
            "batch order": batch_order(loop, rounds),
        }
        (Path(folder) / PARTICIPATION).write_text(table)
        (Path(folder) / DRAWS).write_text(json.dumps(hashes, indent=2) + "\n")


def draws_of(run: Path) -> dict[str, str]:
    """The hashes of a run's ``draws.json`` by what was drawn; empty for a run that has not come to its end."""
    try:
        return dict(json.loads((run / DRAWS).read_text()))
    except (OSError, ValueError):
        return {}


def batch_order(loop: FederatedLoop, rounds: int) -> str:
    """16 hex digits that two runs share when all their clients met the same samples in the same batches and order.

    Orders are functions of (seed, round, client, epoch), so they are drawn again here rather than watched while
    clients train: about 30 us a client and round.
    """
    digest = hashlib.blake2b(digest_size=8)
    for task in (task for round in range(rounds) for task in loop.cohort(round, loop.data) if task.steps):
        try:
            batches = loop.data.client_batches(task.client, task.round, task.seed)
        except Exception:  # whatever its fit failed of: it met nothing, and was left out
            digest.update(f"{task.round}/{task.client}/unread/".encode())
            continue
        assert batches.order is not None
        assert batches.indices is not None
        digest.update(f"{task.round}/{task.client}/{task.steps}/{batches.batch_size}/".encode())
        for epoch, done in enumerate(range(0, task.steps, len(batches))):
            rows = batches.indices[batches.order(epoch)]  # (n_k,)
            digest.update(rows[: (task.steps - done) * batches.batch_size].numpy().astype("<i8").tobytes())
    return digest.hexdigest()


def participation(loop: FederatedLoop, rounds: int) -> pd.DataFrame:
    """What each client did in the first ``rounds`` rounds: cohorts and stragglers are functions of (seed, round).

    Returns:
        A row for each client: its ``samples`` n_k and share ``p_k`` = n_k / n; the rounds that it was ``drawn`` in, and
        of these the ones in which it was ``dropped`` or did ``partial`` work; the passes over its data that it was
        asked for, ``epochs_asked``, and made, ``epochs_done``; and ``share_of_work``, its share of all samples that
        were processed, which equals p_k where nothing favours anybody. Work whose result was rejected counts here: see
        ``round/rejected`` for how much that was.
    """
    import pandas as pd

    sizes = loop.data.partition.sizes
    table = pd.DataFrame({"client": range(len(sizes)), "samples": sizes, "p_k": sizes / sizes.sum()})
    tasks = pd.DataFrame(
        [task for round in range(rounds) for task in loop.cohort(round, loop.data)], columns=list(ClientTask._fields)
    )
    tasks["drawn"], tasks["dropped"] = 1, tasks["steps"] == 0
    tasks["partial"] = ~tasks["dropped"] & (tasks["epochs"] < loop.local_epochs)
    tasks["epochs_asked"], tasks["epochs_done"] = loop.local_epochs, tasks["epochs"]
    counted = ["drawn", "dropped", "partial", "epochs_asked", "epochs_done"]
    sums = tasks.groupby("client")[counted].sum().reindex(table["client"], fill_value=0).reset_index(drop=True)
    work = sums["epochs_done"] * table["samples"]
    return pd.concat([table, sums, (work / max(work.sum(), 1)).rename("share_of_work")], axis=1)
