"""A run of a study: its folder, its progress, and the command that starts or resumes it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from fedlit.core.errors import InputError
from fedlit.runs.folder import has_checkpoint, has_record
from fedlit.runs.read import rows_of
from fedlit.runs.state import FolderLock, is_unused, recorded
from fedlit.study import sweep
from fedlit.study.combination import Combination

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
        """Whether its ``run.json`` records that it has finished; it may have stopped early by itself.

        The record is written after the last checkpoint and the last row of the table.
        """
        return self._planned_when_finished == self.rounds

    @property
    def _planned_when_finished(self) -> int | None:
        """The number of rounds that were planned when it finished; None if it has not finished."""
        try:
            record = recorded(self.folder)
        except InputError:  # an unreadable record, which the run replaces at its next end
            return None
        return record.get("rounds") if record.get("state") == "finished" else None

    @property
    def rounds_done(self) -> int:
        if self.finished:
            return self.rounds
        return min(len(self.round_seconds()), self.rounds) if self.begun else 0

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to resume from: the last one, or another that replaces it if it is missing."""
        return has_checkpoint(self.folder)

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

    def check(self) -> None:
        """Refuse a folder in which the run can be neither resumed nor started without losing results.

        Raises:
            InputError: If the run in the folder has trained more rounds than planned, if it has finished after fewer
                rounds and has no checkpoint to resume from, or if the folder has files that no run wrote.
        """
        if (trained := len(self.round_seconds())) > self.rounds:
            raise InputError(
                f"the run in {self.folder} has trained {trained} rounds, but the study file asks for {self.rounds}; "
                f"give this study another --name, or compare runs at this round by fedlit report --rounds {self.rounds}"
            )
        if self.finished or self.begun or is_unused(self.folder):
            return
        remedy = "give this study another --name, or remove that folder"
        if (rounds := self._planned_when_finished) is not None:
            raise InputError(
                f"the run in {self.folder} has finished {rounds} rounds and has no checkpoint, so it cannot be resumed "
                f"to reach {self.rounds}; {remedy}"
            )
        if not has_record(self.folder):
            raise InputError(f"{self.folder} contains files that are not those of a run; {remedy}")

    def clear(self) -> None:
        """Remove the files of a run that was stopped before its first checkpoint, so that it starts again.

        Raises:
            InputError: If another process uses the folder, or `check` refuses it.
        """
        self.check()
        if self.folder.is_dir() and not self.finished and not self.begun:
            lock = FolderLock(self.folder)
            shutil.rmtree(self.folder)
            lock.release()

    def command(self) -> list[str]:
        """The command that starts it, or resumes it from its last checkpoint."""
        words = ["fit", "--config", self.base, *self.combination.arguments, "--seed_everything", self.seed]
        words += ["--logs_dir", self.study, "--name", self.combination.name, "--version", self.version]
        words += ["--trainer.max_epochs", self.rounds]
        if self.begun:
            words += ["--ckpt_path", "last"]
        return [*sweep.FEDLIT, *map(str, words)]

    def __str__(self) -> str:
        return f"{self.combination.name}, seed {self.seed}"
