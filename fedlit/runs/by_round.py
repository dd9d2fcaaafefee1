"""Files that a run writes for some of its rounds, such as ``rounds/KIND_0007.csv`` for round 7."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from lightning import Callback, LightningModule, Trainer

from fedlit.core.counts import at_least
from fedlit.core.errors import InputError
from fedlit.data.module import data_of
from fedlit.federated.module import FederatedModule

#: Folder in a run's folder.
ROUNDS = "rounds"


def files_by_round(run: Path, pattern: str) -> dict[int, Path]:
    """The files of one kind in a run's folder, by round, in order.

    Args:
        run: The run's folder.
        pattern: The file name with ``{}`` in place of the round, such as ``clients_{}.csv``.
    """
    before, after = map(re.escape, pattern.split("{}"))
    found = ((re.fullmatch(rf"{before}(\d+){after}", path.name), path) for path in (run / ROUNDS).glob("*"))
    return dict(sorted((int(name[1]), path) for name, path in found if name))


class ByRound(Callback):
    """Writes a file after every k-th round and after the last one.

    It is written before the round's checkpoint. On a resume, files of rounds after the checkpoint are removed and
    written again, so a stopped and resumed run ends with the same files as an uninterrupted one. A new fit removes
    files of an earlier fit from a run's folder. In another folder of the Trainer such files may be the user's, so the
    fit is refused.

    Args:
        every: Rounds k from one file to the next, at least 1.
    """

    #: The file name, with ``{}`` in place of the round.
    pattern: ClassVar[str]
    #: Files in the run's folder that are drawn from these at the end.
    drawn: ClassVar[tuple[str, ...]] = ()

    def __init__(self, every: int) -> None:
        self.every = at_least(1, "every", every, "1 writes a file each round")
        self._folder = Path()

    @abstractmethod
    def record(self, trainer: Trainer, module: FederatedModule, path: Path) -> None:
        """Write the file of the round that has just finished; called only on the first rank."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, FederatedModule)
        if not (data := data_of(trainer)).has_examples:
            raise InputError(
                f"trainer.callbacks: {type(self).__name__} needs the clients' examples, but with {type(data).__name__} "
                "they stay at the clients; leave it out"
            )
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        if any(isinstance(each, ByRound) and each.pattern == self.pattern for each in callbacks if each is not self):
            raise InputError(
                f"trainer.callbacks has two callbacks that write rounds/{self.pattern.format('NNNN')} (one is a "
                f"{type(self).__name__}), so one would replace the files of the other; leave one out"
            )
        place = trainer.log_dir or trainer.default_root_dir  # on all ranks, since it communicates
        self._folder = pl_module.loop.folder or Path(place)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, FederatedModule)
        finished = trainer.global_step
        if not finished:
            self._begin(trainer, owned=pl_module.loop.folder is not None)
        # the latter were written at an earlier end of the run
        self._remove(trainer, lambda round: round > finished or round % self.every > 0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step % self.every == 0 or trainer.global_step == trainer.max_epochs:
            self._record(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step % self.every and trainer.global_step != trainer.max_epochs:  # stopped early
            self._record(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        finished = trainer.global_step
        self._remove(trainer, lambda round: round > finished)  # in case a resumed run had no round left

    def _record(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, FederatedModule)
        if (store := pl_module.loop.session.store) is not None:
            store.begin()  # on every rank: makes readable what clients kept in this round
        if trainer.is_global_zero:
            name = self.pattern.format(f"{trainer.global_step:04}")
            self.record(trainer, pl_module, self._folder / ROUNDS / name)

    def _begin(self, trainer: Trainer, owned: bool) -> None:
        """Remove files of an earlier fit if the folder is that of a run.

        Raises:
            InputError: On all ranks, if there are such files and the folder is the Trainer's.
        """
        drawn = [path for name in self.drawn if (path := self._folder / name).exists()]
        earlier = [*files_by_round(self._folder, self.pattern).values(), *drawn] if trainer.is_global_zero else []
        if not owned and (first := trainer.strategy.broadcast(str(earlier[0]) if earlier else "")):
            raise InputError(
                f"{type(self).__name__} would replace {first} of another fit; give the Trainer another "
                "default_root_dir or a logger, or remove the file"
            )
        for path in earlier:
            path.unlink()

    def _remove(self, trainer: Trainer, is_stale: Callable[[int], bool]) -> None:
        if trainer.is_global_zero:
            for round, path in files_by_round(self._folder, self.pattern).items():
                if is_stale(round):
                    path.unlink()
