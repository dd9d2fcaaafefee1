"""A run of a study: its folder, its progress, and the command that starts or resumes it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from fedlit.core.errors import InputError
from fedlit.runs.folder import CHECKPOINTS
from fedlit.runs.participation import draws_of
from fedlit.runs.read import rows_of
from fedlit.runs.state import FolderLock, recorded
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
        """Whether its ``run.json`` says so. That is written after the last checkpoint; the run may have stopped
        early."""
        try:
            said = recorded(self.folder)
        except InputError:  # an unreadable record, which the run will replace when it ends
            return False
        return said.get("state") == "finished" and said.get("rounds") == self.rounds

    @property
    def rounds_done(self) -> int:
        return self.rounds if self.finished else min(len(self.round_seconds()), self.rounds) if self.begun else 0

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return self._last.is_file()

    @property
    def _last(self) -> Path:
        return self.folder / CHECKPOINTS / "last.ckpt"

    @property
    def state(self) -> str:
        if self.finished:
            return "done"
        return "part-done" if self.begun else "to do"

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

    def clear(self) -> None:
        """Remove the files of a run that was stopped before its first checkpoint, so that it starts again.

        Raises:
            InputError: If another process still uses the folder.
        """
        if self.folder.is_dir() and not self.begun:
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
