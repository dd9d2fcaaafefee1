"""``fedlit verify``: compare a killed and resumed run of a config, bit by bit, with one that was not stopped.

  fedlit verify --config configs/quickstart.yaml --at_round 2 --rounds 4

It takes all options of fedlit fit. One run is not stopped. Another is killed by SIGKILL in the middle of the round
after --at_round, and is resumed from its checkpoint. The files of both are compared by SHA-256. Loggers that the config
names are left out, as they would keep records of runs that are only compared.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lightning import Callback, LightningModule, Trainer
from rich.table import Table
from rich.text import Text

from fedlit.command.parser import PlainParser
from fedlit.core.errors import InputError
from fedlit.core.terminal import Terminal
from fedlit.federated.loop import FederatedLoop
from fedlit.runs.compare import ComparedPart, compare_runs
from fedlit.runs.folder import CHECKPOINTS
from fedlit.runs.progress import bars
from fedlit.study import sweep

SIGKILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has none
HASH_DIGITS = 16


class KillInRound(Callback):
    """Kills the process after the first client's fit of a round, or after the round if no client trains.

    Args:
        round: The round, counted from 1.
    """

    def __init__(self, round: int) -> None:
        self.round = round

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._due(trainer):
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, FederatedLoop):
                    callback.on_update.append(lambda update: _kill())

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if self._due(trainer):
            _kill()

    def _due(self, trainer: Trainer) -> bool:
        return trainer.is_global_zero and trainer.current_epoch + 1 == self.round


def _kill() -> NoReturn:
    os.kill(os.getpid(), SIGKILL)
    raise AssertionError("a killed process is still running")


@dataclass(frozen=True)
class Attempt:
    """A process of ``fedlit fit``; its run is ``LOGS/verify/VERSION``.

    Args:
        fit: The user's options.
        logs: Folder of both runs.
        version: The folder name of this run.
        rounds: Number of rounds to train.
        more: More options.
    """

    fit: tuple[str, ...]
    logs: Path
    version: str
    rounds: int
    more: tuple[str, ...] = ()

    @property
    def output(self) -> Path:
        """The file with the output of its process."""
        return self.logs / f"{self.version}.log"

    @property
    def folder(self) -> Path:
        return self.logs / "verify" / self.version

    def command(self) -> list[str]:
        words = ["--logs_dir", str(self.logs), "--name", "verify", "--version", self.version]
        words += ["--trainer.max_epochs", str(self.rounds), "--trainer.logger", "true"]
        return [*sweep.FEDLIT, "fit", *self.fit, *words, *self.more]


def parser() -> argparse.ArgumentParser:
    """The parser of the command's own options; all others belong to ``fedlit fit``."""
    options = PlainParser(prog="fedlit verify", description=__doc__)
    options.add_argument("--at_round", type=int, default=1, help="Last finished round before the kill (default: 1).")
    options.add_argument("--rounds", type=int, help="Rounds of both runs (default: one more than --at_round).")
    options.add_argument(
        "--keep", action="store_true", help="Keep the runs; if they differ, they are kept in any case."
    )
    return options


def main(words: Sequence[str]) -> int:
    """Verify a config.

    Returns:
        0 if both runs are the same to the bit, 1 if not.

    Raises:
        InputError: If the options are wrong, or if a run fails.
    """
    options, fit = parser().parse_known_args(list(words))
    rounds = options.at_round + 1 if options.rounds is None else options.rounds
    if not 1 <= options.at_round < rounds:
        raise InputError(
            f"--at_round must be at least 1 and less than --rounds, got {options.at_round} and {rounds}; "
            "a run is killed in the round after --at_round"
        )
    if any(word.partition("=")[0] == "--ckpt_path" for word in fit):
        raise InputError("--ckpt_path has no effect, as fedlit verify starts new runs; leave it out")
    console = Terminal()
    logs = Path(tempfile.mkdtemp(prefix="fedlit_verify_"))
    same = False
    try:
        straight, resumed = run_both(tuple(fit), logs, options.at_round, rounds, console)
        comparisons = compare_runs(straight, resumed)
        same = not any(each.difference for each in comparisons)
        console.print(table(comparisons))
        console.print(verdict(comparisons, options.at_round, rounds))
    finally:
        if same and not options.keep:
            shutil.rmtree(logs)
        else:
            console.print(f"both runs are in {logs}")
    return 0 if same else 1


def run_both(fit: tuple[str, ...], logs: Path, at_round: int, rounds: int, console: Terminal) -> tuple[Path, Path]:
    """Train the run that is not stopped, and the one that is killed and resumed.

    Returns:
        Their folders.

    Raises:
        InputError: If a process fails, or ends before it is killed.
    """
    kill = f"--trainer.callbacks+={__name__}.KillInRound", f"--trainer.callbacks.round={at_round + 1}"
    straight = Attempt(fit, logs, "straight", rounds)
    killed = Attempt(fit, logs, "resumed", rounds, kill)
    checkpoint = killed.folder / CHECKPOINTS / "last.ckpt"
    resumed = Attempt(fit, logs, "resumed", rounds, ("--ckpt_path", str(checkpoint)))
    with bars(console) as progress:
        for told, attempt, first, last in (
            ("without a stop", straight, 0, rounds),
            ("until it is killed", killed, 0, at_round),
            ("resumed", resumed, at_round, rounds),
        ):
            bar = progress.add_task(told, total=last - first)
            failure = sweep.fit(
                attempt,
                {**os.environ, "PYTHONUNBUFFERED": "1"},
                lambda round, bar=bar, first=first: progress.update(bar, completed=round - first),  # type: ignore[misc]
            )
            if attempt is killed and failure and failure.startswith(f"exit status {-SIGKILL}:"):
                continue
            if failure or attempt is killed:
                reason = failure or f"it ended before round {at_round + 1}, in which it was to be killed"
                raise InputError(f"the run {told} failed: {reason}; full output in {attempt.output}")
    return straight.folder, resumed.folder


def table(comparisons: Sequence[ComparedPart]) -> Table:
    """A row for each part of the runs, with the first digits of its hashes."""
    result = Table("SHA-256 of", "without a stop", "killed and resumed", "", box=None, header_style="bold")
    for part, hashes, difference in comparisons:
        shown = Text("different", "red") if difference else Text("same", "green")
        result.add_row(part, *(each[:HASH_DIGITS] for each in hashes), shown)
    return result


def verdict(comparisons: Sequence[ComparedPart], at_round: int, rounds: int) -> str:
    """One line that says whether the runs are the same, and what differs first."""
    when = f"killed in round {at_round + 1} and resumed, {rounds} rounds give"
    for part, _, difference in comparisons:
        if difference:
            return f"different: {when} other bits than without a stop; {part} differ first in {difference}"
    return f"the same: {when} the same bits as without a stop"
