"""``fedlit runs``: list all runs under a folder, also those of studies: progress, accuracy, and how to resume."""

from __future__ import annotations

import shlex
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from fedlit.command.parser import Parser
from fedlit.core.errors import InputError
from fedlit.core.files import read_object
from fedlit.core.terminal import Column, Terminal, table_of
from fedlit.runs.checkpoints import BEST_BY
from fedlit.runs.folder import CHECKPOINTS, CONFIG, METRICS_CSV, STATE, STUDY, files_below, has_record
from fedlit.runs.read import config_of, rows_of
from fedlit.runs.state import RunState, held, recorded
from fedlit.runs.words import facts, lookup

STATE_COLOURS: dict[RunState, str] = {"running": "cyan", "finished": "green", "interrupted": "yellow", "failed": "red"}


@dataclass(frozen=True)
class Listed:
    """A run, as read from its folder.

    Args:
        folder: The run's folder.
        state: A killed run is ``interrupted``.
        done: Number of finished rounds.
        asked: Number of rounds to be trained; None for no limit.
        accuracies: Accuracy of the global model after each round.
        error: The error with which it failed.
        changed_at: Time of its last write, in seconds since the epoch.
        notes: Messages about files that could not be read; usually empty.
        facts: Short descriptions of its settings, see `fedlit.runs.words.facts`.
        seconds: Duration of each round.
        rejected: Total number of clients that were left out because their fit failed.
    """

    folder: Path
    state: RunState
    done: int
    asked: int | None
    accuracies: tuple[float, ...]
    error: str
    changed_at: float
    notes: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    seconds: tuple[float, ...] = ()
    rejected: int = 0

    @property
    def command(self) -> str:
        """The command that resumes it; empty if it is finished or running, or has no checkpoint."""
        last = self.folder / CHECKPOINTS / "last.ckpt"
        if self.state not in ("interrupted", "failed") or not last.is_file():
            return ""
        return shlex.join(["fedlit", "fit", "--config", str(self.folder / CONFIG), "--ckpt_path", str(last)])


def list_runs(logs: str | Path) -> list[Listed]:
    """All runs under a folder, by their paths.

    Raises:
        InputError: If there is none.
    """
    if not Path(logs).is_dir():
        raise InputError(
            f"the folder {logs} does not exist; give the folder of all runs, for example: fedlit runs logs"
        )
    folders = (path.parent for path in files_below(Path(logs), CONFIG))  # other programs write such a file, too
    runs = [_listed(folder) for folder in folders if has_record(folder) or (folder / METRICS_CSV).exists()]
    if not runs:
        raise InputError(f"there are no runs under {logs}; start one with fedlit fit, or give another folder")
    return sorted(runs, key=lambda run: run.folder)


def _listed(folder: Path) -> Listed:
    config, notes = config_of(folder), []
    rows: list[dict[str, str]] = []
    record: dict[str, Any] = {}
    try:
        rows = rows_of(folder)
    except InputError as error:
        notes.append(str(error))
    try:
        record = recorded(folder)
    except InputError as error:
        notes.append(str(error))
    asked = record.get("rounds", lookup(config, "trainer", "max_epochs"))
    asked = asked if isinstance(asked, int) and asked >= 0 else None
    done = int(rows[-1]["round"]) if rows else 0
    state: RunState = record.get("state") or ("finished" if asked is not None and done >= asked else "interrupted")
    if held(folder):
        state = "running"
    elif state == "running":  # the process was killed
        state = "interrupted"
    written = [path.stat().st_mtime for name in (METRICS_CSV, STATE, CONFIG) if (path := folder / name).exists()]
    accuracies, seconds, rejected = (
        tuple(float(row[name]) for row in rows if row.get(name))
        for name in (BEST_BY, "round/seconds", "round/rejected")
    )
    return Listed(
        folder,
        state,
        done,
        asked,
        accuracies,
        record.get("error", ""),
        max(written, default=0.0),
        tuple(notes),
        facts(config),
        seconds,
        int(sum(rejected)),
    )


def parser() -> Parser:
    """The parser of the command."""
    options = Parser(prog="fedlit runs", description=__doc__)
    options.add_argument(
        "logs", type=str, nargs="?", default="logs", help="Folder of the runs; its subfolders are searched too."
    )
    return options


def main(words: Sequence[str]) -> int:
    """Show the table.

    Returns:
        0.
    """
    logs = Path(parser().parse_args(list(words)).logs)
    runs = list_runs(logs)
    console = Terminal()
    console.print(table(runs, logs, time.time(), console))
    for run in runs:
        if run.state == "failed" and run.error:
            console.print(f"{run.folder.relative_to(logs)} failed: {run.error}")
        for note in run.notes:
            console.print(f"ignored: {note}")
    commands = list(dict.fromkeys(_commands(runs)))
    if commands:
        console.print("resume with:")
    for command in commands:
        console.print(f"  {command}")
    return 0


def table(runs: Sequence[Listed], logs: Path, now: float, console: Terminal) -> Table:
    """A row for each run, with the columns that fit; the age is the time since the run last wrote a file."""

    def fact(name: str, dropped: int, right: bool = False) -> Column:
        return Column(name, [run.facts.get(name, "") for run in runs], dropped, right)

    columns = [
        *columns_of_all(runs, logs),
        Column("best", [_accuracy(max(run.accuracies, default=None)) for run in runs], 2),
        Column("last", [_accuracy(next(reversed(run.accuracies), None)) for run in runs]),
        fact("attention", 3),
        fact("partition", 4),
        fact("mu", 5, right=True),
        fact("seed", 6, right=True),
        Column("time", [_time(sum(run.seconds)) if run.seconds else "" for run in runs], 7),
        Column("age", [age(now - run.changed_at) for run in runs], 8),
    ]
    return table_of(columns, console)


def columns_of_all(runs: Sequence[Listed], logs: Path) -> list[Column]:
    """The first columns of every table of runs: the folder, the state and the rounds."""
    return [
        Column("run", [str(run.folder.relative_to(logs)) for run in runs], right=False),
        Column("state", [Text(run.state, STATE_COLOURS[run.state]) for run in runs], right=False),
        Column("rounds", [f"{run.done}/{'-' if run.asked is None else run.asked}" for run in runs]),
    ]


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _accuracy(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def age(seconds: float) -> str:
    """A duration in the largest unit of which it has at least one."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def _commands(runs: Sequence[Listed]) -> Iterator[str]:
    """The command that resumes each run; for a run of a study, the command of the study."""
    for run in runs:
        study = run.folder.absolute().parent.parent / STUDY
        if run.state in ("interrupted", "failed") and study.is_file():
            if command := _command_of(study):
                yield command
        elif run.command:
            yield run.command


def _command_of(study: Path) -> str:
    """The command that continues a study in its present folder; empty if its record cannot be read.

    It is the command in the record, with ``cd`` if it was run in another folder than the current one, and with
    ``--logs_dir`` and ``--name`` if the study's folder was moved or renamed, as a new study would be started otherwise.
    """
    with suppress(InputError):
        record = read_object(study)
        words, folder = record.get("command"), study.absolute().parent
        if isinstance(words, list):
            words = [str(word) for word in words]
            here = Path.cwd()
            started_in = Path(str(record.get("started_in") or here))
            places = [here, *([started_in] if started_in.is_dir() else [])]
            continues = [each for each in places if _folder_of(words, each).resolve() == folder.resolve()]
            if not continues:
                words = [*_without_place(words), "--logs_dir", str(folder.parent), "--name", folder.name]
            place = (continues or places[::-1])[0]
            go_there = "" if place.resolve() == here.resolve() else f"cd {shlex.quote(str(place))} && "
            return go_there + shlex.join(words)
    return ""


def _folder_of(words: Sequence[str], started_in: Path) -> Path:
    """The folder of a study that these words start in a folder."""
    given, _ = _PLACE.parse_known_args(words)
    return started_in / str(given.logs_dir) / str(given.name or Path(given.config).stem)


def _without_place(words: Sequence[str]) -> list[str]:
    """The words without ``--logs_dir`` and ``--name``."""
    given, others = _PLACE.parse_known_args(words)
    return [*others[:2], "--config", given.config, *others[2:]]


#: The options of ``fedlit study`` that determine its folder.
_PLACE = ArgumentParser(add_help=False, allow_abbrev=False)
_PLACE.add_argument("--config", default="")
_PLACE.add_argument("--logs_dir", default="logs")
_PLACE.add_argument("--name")
