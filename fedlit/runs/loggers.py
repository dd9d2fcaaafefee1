"""The loggers of a run: TensorBoard and a CSV file, both of which a resumed run continues."""

from __future__ import annotations

import csv
import time
from argparse import Namespace
from collections.abc import Iterable, Mapping
from contextlib import nullcontext, suppress
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from fedlit.core.errors import InputError
from fedlit.core.files import atomic_write, writing
from fedlit.core.messages import one_line, warn
from fedlit.runs.board import tag_of
from fedlit.runs.clock import put_before
from fedlit.runs.folder import METRICS_CSV
from fedlit.runs.own_loggers import Given, check_places, own_loggers
from fedlit.runs.salvage import salvaged

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def loggers_of(run: Path | None, given: Given, resume_round: int = 0) -> list[Logger]:
    """The loggers of a run: the user's, and fedlit's own.

    The user's come first, so that ``trainer.logger`` is the same as with a plain Trainer.

    Args:
        run: The run's folder; None on ranks other than the first, which log nothing.
        given: The Trainer's argument. False turns off the curves; ``metrics.csv``, the record of the run, is still
            written.
        resume_round: Finished rounds of the checkpoint that is resumed; 0 for a new run.

    Raises:
        InputError: If one of the user's loggers would overwrite the run's table.
    """
    if run is not None:
        check_places(own_loggers(given), run)
    table = MetricsTable(run / METRICS_CSV if run else None, resume_round)
    if run is None or given is False:
        return [*own_loggers(given), table]
    purge_step = resume_round + 1 if resume_round else None
    return [*own_loggers(given), Board(run.parent.parent, run.parent.name, run.name, purge_step=purge_step), table]


class Board(TensorBoardLogger):
    """Lightning's TensorBoard logger without ``hparams.yaml``, as a run's ``config.yaml`` has everything.

    The curves of the global model come first, see `fedlit.runs.board`. No file is written before data and checkpoint
    have been checked, so a run that cannot start leaves no folder.
    """

    _begun = False

    @property
    def experiment(self) -> SummaryWriter:
        """The writer; raises AttributeError until the Trainer first saves, which is after its setup."""
        if not self._begun:
            raise AttributeError("the run has not begun")
        return super().experiment  # type: ignore[no-any-return]

    @rank_zero_only
    def save(self) -> None:
        """Flush everything that was logged to disk."""
        if not self._begun and (renamed := put_before(Path(self.log_dir), time.time())):
            rank_zero_warn(
                f"the clock was set back since the earlier part of the run: {renamed} event files were given earlier "
                "times in their names, so that TensorBoard shows the rounds in order"
            )
        self._begun = True
        with writing(self.log_dir):
            self.experiment.flush()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        with writing(self.log_dir):
            super().log_metrics({tag_of(name): value for name, value in metrics.items()}, step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        # A follow-up error, as on a full disk, must not hide the error that ended the run.
        with suppress(OSError) if status == "failed" else nullcontext():
            super().finalize(status)


class MetricsTable(Logger):
    """Writes ``metrics.csv``: a row for each round, a column for each scalar; the file is complete after every round.

    Args:
        path: The file; None on ranks other than the first. Existing rows are kept up to ``resume_round``.
        resume_round: The number of rounds that the checkpoint holds; later rows will be written again. 0 starts a new
            file.
    """

    def __init__(self, path: Path | None, resume_round: int = 0) -> None:
        super().__init__()
        self._path = path
        self._rows = salvaged(path.parent, resume_round) if path and resume_round else {}
        self._names: list[str] = []  # of the columns
        self._lines: dict[int, str] = {}  # by round; a row is written again only if it, or a column, has changed
        self._left_out: set[str] = set()
        self.round: int | None = None  # the current round; None if unknown

    @property
    def save_dir(self) -> str | None:
        """The folder of the file."""
        return str(self._path.parent) if self._path else None

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Hyper-parameters are in the run's ``config.yaml``."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add scalars to a round's row and replace the file atomically.

        Args:
            metrics: Numbers, or tensors and arrays with one element.
            step: The round; None is the current one. Metrics of a step that is not a round are left out, with a
                warning.

        Raises:
            InputError: For a value that is not a number, and for a name that the table uses itself.
        """
        if self._path is None:
            return
        row = (self.round or 0) if step is None else step
        numbers = {name: _number(name, value) for name, value in metrics.items()}
        if numbers.pop("round", row) != row:
            raise InputError(
                f"a metric 'round' with the value {metrics['round']} was logged in round {row}, but {self._path.name} "
                "uses this name to number its rows; give the metric another name"
            )
        if not isinstance(row, int) or row < 0 or (self.round is not None and row > self.round):
            self._leave_out(numbers, row)
            return
        self._rows.setdefault(row, {"round": row}).update(numbers)
        self._lines.pop(row, None)
        names = list(dict.fromkeys(chain.from_iterable(self._rows.values())))
        if names != self._names:
            self._names, self._lines = names, {}
        for round in self._rows.keys() - self._lines.keys():
            self._lines[round] = _line(self._rows[round].get(name, "") for name in names)
        with atomic_write(self._path, newline="") as file:
            file.write(_line(names))
            file.writelines(self._lines[round] for round in sorted(self._lines))

    def _leave_out(self, names: Iterable[str], step: Any) -> None:
        if new := set(names) - self._left_out:
            self._left_out |= new
            warn(
                f"{', '.join(sorted(new))} was logged at step {step} in round {self.round} and is left out "
                f"of {METRICS_CSV}, "
                "which has a row for each round; log it with step=trainer.global_step, or to a logger of your own"
            )


def _line(cells: Iterable[Any]) -> str:
    line = StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


def _number(name: str, value: Any) -> int | float:
    try:
        number = value.item() if hasattr(value, "item") else value
    except (RuntimeError, ValueError):  # a tensor or array with several elements
        number = None
    if not isinstance(number, int | float):
        raise InputError(
            f"{name} was logged as {one_line(repr(value), 60)}, but {METRICS_CSV} holds numbers; log a number"
        )
    return int(number) if isinstance(number, bool) else number
