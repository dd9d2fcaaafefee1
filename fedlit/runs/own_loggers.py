"""The user's loggers, and checks that none overwrites fedlit's table or its own earlier one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger

from fedlit.core.errors import InputError
from fedlit.core.messages import warn
from fedlit.runs.folder import LOCK, METRICS_CSV, shown
from fedlit.runs.read import is_table_of_rounds

#: Type of a Trainer's argument ``logger``.
Given = Logger | Sequence[Logger] | bool | None


def own_loggers(given: Given) -> list[Logger]:
    """The loggers that the user gave."""
    if given is None or isinstance(given, bool):
        return []
    return [given] if isinstance(given, Logger) else list(given)


def check_places(loggers: Iterable[Logger], run: Path) -> None:
    """Refuse a logger that would write its table to the folder of the run, or of another one.

    Raises:
        InputError: Naming the folder.
    """
    for logger in loggers:
        folder = Path(logger.log_dir).resolve() if isinstance(logger, CSVLogger) else None
        if folder and (folder == run.resolve() or _is_run(folder)):
            raise InputError(
                f"trainer.logger: {type(logger).__name__} would write {METRICS_CSV} to {shown(folder)}, which has "
                "fedlit's own; give the logger another save_dir, or leave it out"
            )


def _is_run(folder: Path) -> bool:
    """Whether a folder is that of a run; one with a ``run.json`` of the user's, for example, is not."""
    return (folder / LOCK).exists() or is_table_of_rounds(folder / METRICS_CSV)


def keep_tables(loggers: Iterable[Logger]) -> None:
    """Rename existing tables to which Lightning's ``CSVLogger`` will write, since it would delete them."""
    for logger in loggers:
        table = Path(logger.log_dir) / METRICS_CSV if isinstance(logger, CSVLogger) else None
        if table is not None and table.is_file():
            names = (table.with_name(f"{table.stem}_{number}{table.suffix}") for number in count(1))
            kept = next(name for name in names if not name.exists())
            table.rename(kept)
            warn(f"{shown(table)} exists already, from earlier rounds or another run; it is kept as {kept.name}")
