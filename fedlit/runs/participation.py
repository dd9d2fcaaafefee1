"""How often each client took part, against its share of the data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lightning import Callback, LightningModule, Trainer

from fedlit.federated.loop import FederatedLoop
from fedlit.federated.module import FederatedModule
from fedlit.federated.records import ClientTask

if TYPE_CHECKING:
    import pandas as pd

PARTICIPATION = "participation.csv"


class Participation(Callback):
    """Writes ``participation.csv`` into the run folder at the end: a row for each client."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = trainer.log_dir
        if folder is None or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, FederatedModule)
        participation(pl_module.loop, trainer.global_step).to_csv(Path(folder) / PARTICIPATION, index=False)


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
