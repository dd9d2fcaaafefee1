"""The user's loggers: none overwrites fedlit's table, its own earlier one, or the records of a run beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from fedlit.core.errors import InputError
from fedlit.core.files import writing
from fedlit.core.messages import warn
from fedlit.core.private_lightning import forget_version, has_no_version_yet
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


def numbering(loggers: Iterable[Logger]) -> list[CSVLogger | TensorBoardLogger]:
    """The loggers that will number their folders on this machine's disk themselves: ``version_N``, the next free one.

    It must be called before anything asks for the version of one of them.
    """
    return [
        logger
        for logger in loggers
        if isinstance(logger, CSVLogger | TensorBoardLogger)
        and has_no_version_yet(logger)
        and "://" not in str(logger.save_dir)
    ]


def take_numbers(loggers: Sequence[CSVLogger | TensorBoardLogger]) -> list[Path]:
    """Make the folders of loggers that number them, so that no run beside this one writes to the same.

    Two loggers of a run may share a folder.

    Returns:
        All folders that were made, the innermost first, for `remove_empty`.
    """
    made: list[Path] = []
    while waiting := dict.fromkeys(folder for each in loggers if (folder := Path(each.log_dir)) not in made):
        for folder in waiting:
            new = [path for path in folder.parents if not path.exists()]
            with writing(folder):
                folder.parent.mkdir(parents=True, exist_ok=True)
                try:
                    folder.mkdir()
                except FileExistsError:
                    if not folder.is_dir():
                        raise
                    # Another run was faster: choose the next number.
                    for each in (each for each in loggers if Path(each.log_dir) == folder):
                        forget_version(each)
                else:
                    made += [folder, *new]
    return made


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of the folders that are still empty, as no round was logged."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
