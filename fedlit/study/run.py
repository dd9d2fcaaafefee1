"""A run of a study: its folder, its progress, and the command that starts or resumes it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedlit.core.checkpoint import BEST, LAST, PREVIOUS
from fedlit.core.errors import InputError
from fedlit.runs.folder import CHECKPOINTS, LOCK, STATE
from fedlit.runs.participation import draws_of
from fedlit.runs.read import config_of, rows_of
from fedlit.runs.state import FolderLock, is_unused, recorded
from fedlit.study import sweep
from fedlit.study.plan import Combination

SECONDS = "round/seconds"


@dataclass(frozen=True)
class StudyRun:
    """A combination at a seed. Its folder is ``STUDY/NAME/seed_K``.

    Args:
        base: The config that the combination changes.
        combination: The combination.
        seed: The value of ``seed_everything``, for partition, initial weights, cohorts, stragglers and batch order.
        study: The folder of the study.
    """

    base: Path
    combination: Combination
    seed: int
    study: Path

    @property
    def version(self) -> str:
        return f"seed_{self.seed}"

    @property
    def folder(self) -> Path:
        return self.study / self.combination.name / self.version

    @property
    def output(self) -> Path:
        return self.folder.with_suffix(".log")

    @property
    def rounds(self) -> int:
        return self.combination.rounds

    @property
    def finished(self) -> bool:
        """Whether its ``run.json`` says so, written after its last checkpoint and table; it may have stopped early."""
        return self._finished_of == self.rounds

    @property
    def _finished_of(self) -> int | None:
        """Of how many rounds it is finished; None where it is not."""
        try:
            said = recorded(self.folder)
        except InputError:  # an unreadable record, which the run replaces when it ends next
            return None
        return said.get("rounds") if said.get("state") == "finished" else None

    @property
    def rounds_done(self) -> int:
        return self.rounds if self.finished else min(len(self.round_seconds()), self.rounds) if self.begun else 0

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to resume from: the last one, or one that stands in for it."""
        return any((self.folder / CHECKPOINTS / name).is_file() for name in (LAST, PREVIOUS, BEST))

    @property
    def state(self) -> str:
        if self.finished:
            return "done"
        return "part-done" if self.begun else "to do"

    @property
    def config(self) -> dict[str, Any]:
        """What it was begun or gone on with; empty where that cannot be read."""
        return config_of(self.folder)

    def round_seconds(self) -> list[float]:
        """Duration of each finished round; empty if the table is damaged."""
        try:
            rows = rows_of(self.folder)
        except InputError:
            return []
        return [float(row.get(SECONDS) or "nan") for row in rows if int(row["round"]) > 0]

    @property
    def damage(self) -> str:
        """A description of damage to its ``metrics.csv``; usually empty."""
        try:
            rows_of(self.folder)
        except InputError as error:
            return str(error)
        return ""

    def check(self) -> None:
        """Refuse a folder in which it can neither go on nor begin again without a loss.

        Raises:
            InputError: When a run there has made more rounds, or is finished after fewer and has no checkpoint to go
                on from, or there are files that are no run's.
        """
        if (made := len(self.round_seconds())) > self.rounds:
            raise InputError(
                f"{self.folder} has made {made} rounds, more than the {self.rounds} asked for; give this study another "
                f"--name, or compare its runs at round {self.rounds} by fedlit report --rounds {self.rounds}"
            )
        if self.finished or self.begun or is_unused(self.folder):
            return
        remedy = "give this study another --name, or remove that folder"
        if (rounds := self._finished_of) is not None:
            raise InputError(
                f"{self.folder} is finished after {rounds} rounds, and without a checkpoint it cannot go on to "
                f"{self.rounds}; {remedy}"
            )
        if not any((self.folder / name).is_file() for name in (STATE, LOCK)):
            raise InputError(f"{self.folder} holds files that no run of fedlit left there; {remedy}")

    def clear(self) -> None:
        """Remove the files of a run that was stopped before its first checkpoint, so that it starts again.

        Raises:
            InputError: When another process is still at work there, or `check` refuses the folder.
        """
        self.check()
        if self.folder.is_dir() and not self.finished and not self.begun:
            lock = FolderLock(self.folder)
            shutil.rmtree(self.folder)
            lock.release()

    def command(self) -> list[str]:
        """The command that starts it, or resumes it from its last checkpoint."""
        words = ["fit", "--config", self.base, *self.combination.words, "--seed_everything", self.seed]
        words += ["--logs_dir", self.study, "--name", self.combination.name, "--version", self.version]
        words += ["--trainer.max_epochs", self.rounds]
        if self.begun:
            words += ["--ckpt_path", "last"]
        return [*sweep.FEDLIT, *map(str, words)]

    def hashes(self) -> dict[str, str]:
        """Hashes of its partition, participation and batch order, which are equal if two runs share them."""
        return draws_of(self.folder)

    def __str__(self) -> str:
        return f"{self.combination.name}, seed {self.seed}"
