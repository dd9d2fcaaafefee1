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
    """A combination at a seed. It lives in ``STUDY/NAME/seed_K``.

    Args:
        base: The config that the combination changes.
        combination: What it changes.
        seed: What ``seed_everything`` is given: partition, initial weights, cohorts, stragglers and batch order.
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
        try:
            said = recorded(self.folder)
        except InputError:  # an unreadable record, which the run replaces when it ends next
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
        """How long each of its rounds took; none where its table is damaged."""
        try:
            rows = rows_of(self.folder)
        except InputError:
            return []
        return [float(row.get(SECONDS) or "nan") for row in rows if int(row["round"]) > 0]

    @property
    def damage(self) -> str:
        """What is wrong with its ``metrics.csv``; empty as a rule."""
        try:
            rows_of(self.folder)
        except InputError as error:
            return str(error)
        return ""

    def clear(self) -> None:
        """Remove what a run left that was stopped before its first checkpoint: it begins again in the same folder.

        Raises:
            InputError: When another process is still at work there.
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
        """Hashes of its partition, its participation and its batch order; equal where two runs shared them."""
        return draws_of(self.folder)

    def __str__(self) -> str:
        return f"{self.combination.name}, seed {self.seed}"
