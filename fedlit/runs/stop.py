"""Ends a run promptly and with a message on SIGTERM, or if another rank has died."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import torch.distributed as dist
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.environments import LightningEnvironment

from fedlit.core.messages import RESUME_HINT, lost_rank
from fedlit.core.private_lightning import rank_launcher, ranks_started_by

POLL_SECONDS = 0.2
#: Environment variable of ranks that Lightning starts: the process that started them.
PARENT = "FEDLIT_PARENT_PID"
#: Time for the main thread to notice by itself, in a collective, and again after it was interrupted.
GRACE_SECONDS = 2.0
BEGIN_AGAIN = "no round had started; run the command again"


class Terminated(KeyboardInterrupt):
    """SIGTERM, which Lightning and fedlit treat as Ctrl-C."""


class LostRankError(dist.DistError):
    """Another rank has died."""


@contextmanager
def sigterm_is_ctrl_c() -> Iterator[None]:
    """Within it SIGTERM stops a run at once, as Ctrl-C does; Lightning alone would finish the round first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut the shutdown short
    raise Terminated


class RankWatch(Callback):
    """Ends this rank within seconds of another's death, with an error that names the one that died.

    Ranks that Lightning started on this machine watch each other as parent and child. For other ranks (``torchrun``,
    SLURM, other machines) only the lost connection is noticed, in the next collective; their launcher names them.
    """

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._training = False
        self._lost = ""

    def start(self, trainer: Trainer) -> None:
        """Watch from now on, before the other ranks are started."""
        if trainer.world_size > 1:
            self._trainer = trainer
            self._first = trainer.node_rank * trainer.num_devices
            environment = getattr(trainer.strategy, "cluster_environment", None)
            is_child = isinstance(environment, LightningEnvironment) and trainer.local_rank > 0
            # Not os.getppid() if the variable is set: a parent that has already died is no longer the parent.
            self._parent = int(os.environ.get(PARENT, os.getppid())) if is_child else None
            if not is_child:
                os.environ[PARENT] = str(os.getpid())
            threading.Thread(target=self._watch, name="rank-watch", daemon=True).start()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._observe_alone(trainer)

    def _observe_alone(self, trainer: Trainer) -> None:
        """Turn off Lightning's own observer of this machine's ranks, which would kill this process silently."""
        launcher = rank_launcher(trainer)
        if launcher is not None and len(launcher.procs) == trainer.num_devices - 1:
            observed, launcher.procs = launcher.procs, list(launcher.procs)
            observed.clear()  # the list that this observer checks; all ranks are started by now

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1 and threading.current_thread() is threading.main_thread():
            # Replaces Lightning's handler, which starts a collective that a dead rank would not answer.
            signal.signal(signal.SIGTERM, self._on_sigterm)
        self._training = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ended.set()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Add the name of the rank that died to the error of a collective."""
        self._ended.set()
        if isinstance(exception, Exception) and lost_rank(exception) and not isinstance(exception, LostRankError):
            who = self._await_death() or (f"rank {1 - trainer.global_rank} is gone" if trainer.world_size == 2 else "")
            exception.args = (f"{who} ({exception})" if who else str(exception),)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> NoReturn:
        if self._lost:
            raise LostRankError(self._lost)
        _terminate(number, frame)

    def _await_death(self) -> str:
        """Wait a moment, as the system may close a process's connections before it reports that it has ended."""
        for _ in range(int(GRACE_SECONDS / POLL_SECONDS)):
            if who := self._dead():
                return who
            threading.Event().wait(POLL_SECONDS)
        return ""

    def _dead(self) -> str:
        """Which rank has died, and how; empty while all are alive."""
        for rank, process in enumerate(ranks_started_by(self._trainer), self._first + 1):
            if process.poll():
                return f"rank {rank} {_end(process.returncode)}"
        return f"rank {self._first} has died" if self._parent not in (None, os.getppid()) else ""

    def _watch(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            if not self._training:
                self._observe_alone(self._trainer)
            if who := self._dead():
                self._end(who)
                return

    def _end(self, who: str) -> None:
        """Let the main thread end with the error; exit if it hangs in a call that waits for the dead rank."""
        if self._ended.wait(GRACE_SECONDS):
            return
        if self._training:
            self._lost = who
            _thread.interrupt_main(signal.SIGTERM)
            if self._ended.wait(GRACE_SECONDS):
                return
        sys.stderr.write(f"fedlit: error: {who}; {RESUME_HINT if self._training else BEGIN_AGAIN}\n")
        sys.stderr.flush()
        for process in ranks_started_by(self._trainer):
            process.kill()
        os._exit(1)


def _end(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
