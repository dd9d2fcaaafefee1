"""Callbacks that measure a federation from outside: what every user could add to a Trainer."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from fedlit.federated import FederatedModule


class RoundClock(Callback):
    """Times the rounds, counts the steps of the clients' optimizers, and prints a JSON line at the end.

    Per round: ``seconds`` (the module's own ``round/seconds``: evaluation, logging and checkpoints excluded),
    ``wall_seconds`` (from the round's start to the next one's: all of them included), ``samples``, ``calls`` (of
    optimizers' ``step``), ``steps`` (those calls times the number of client models that each one steps). At the end
    ``drift``, the last round's mean ||w_k - w_t||, which shows that the steps were real ones.
    """

    def __init__(self) -> None:
        self._starts: list[float] = []
        self._rounds: list[dict[str, float]] = []
        self._server: Optimizer

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._server = trainer.optimizers[0]
        self._counts = multiprocessing.Array("d", 2)  # calls, scalars stepped: shared with processes forked from here
        self._hook = register_optimizer_step_post_hook(self._count)

    def _count(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if optimizer is not self._server:
            scalars = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
            with self._counts.get_lock():
                self._counts[0] += 1
                self._counts[1] += scalars

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._starts.append(time.perf_counter())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, FederatedModule)
        with self._counts.get_lock():
            mine = torch.tensor(self._counts[:], dtype=torch.float64, device=pl_module.device)
            self._counts[:] = [0, 0]
        calls, scalars = torch.as_tensor(trainer.strategy.reduce(mine, reduce_op="sum")).tolist()
        steps = scalars / pl_module.layout.num_trainable
        self._rounds.append({**pl_module.round_metrics, "calls": calls, "steps": steps})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._hook.remove()
        self._starts.append(time.perf_counter())
        if not trainer.is_global_zero:
            return
        columns = {"seconds": "round/seconds", "samples": "round/samples", "calls": "calls", "steps": "steps"}
        result: dict[str, Any] = {name: [row[key] for row in self._rounds] for name, key in columns.items()}
        bounds = zip(self._starts, self._starts[1:], strict=False)
        result["wall_seconds"] = [stop - start for start, stop in bounds]
        result["drift"] = self._rounds[-1]["drift/mean"]
        sys.stdout.write("\n" + json.dumps(result) + "\n")


class ExitAtFirstRound(Callback):
    """Ends the process where the first round starts."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        os._exit(0)
