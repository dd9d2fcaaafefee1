"""Where runs live: ``LOGS/NAME/version_N``, with checkpoints, scalars, pictures and the config of each.

A run can be given a folder name of its own in place of ``version_N``; it is then found by that name only.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from fedlit.core.checkpoint import BEST, LAST, PREVIOUS, read
from fedlit.core.errors import InputError

CHECKPOINTS = "checkpoints"
OWN_CHECKPOINTS = "own_checkpoints"  # of ModelCheckpoints that the user adds without a folder of their own
CONFIG = "config.yaml"
UNTIL_ROUND = "config_until_round_{}.yaml"  # of a run that went on with other settings
METRICS_CSV = "metrics.csv"
STATE = "run.json"
LOCK = "run.lock"
MAX_NAME = 200  # bytes of a run's name; file systems have 255
STUDY = "study.json"  # in the folder of a study: what it is made of


def folder_name(name: str, what: str) -> str:
    """The name, if it can be that of a folder in any file system and a word of any shell.

    Raises:
        InputError: When it cannot; ``what`` says what it was given for.
    """
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+=,@-]*", name) is None or len(name) > MAX_NAME:
        raise InputError(
            f"{what} must be a folder name of letters, digits, _ - . + =, got {name[:60]!r}; give it another"
        )
    return name


def plain_name(name: str) -> str:
    """The name of a run, if it can be that of one folder.

    Raises:
        InputError: When it cannot.
    """
    if name in (".", "..") or re.search(r"[/\\\x00-\x1f]", name) or not 0 < len(name.encode()) <= MAX_NAME:
        raise InputError(
            f"--name must be the name of one folder, without slashes and at most {MAX_NAME} bytes, got "
            f"{name[:60]!r}; give another --name"
        )
    return name


def usable(folder: Path, option: str = "--logs_dir") -> None:
    """Refuse a folder that runs cannot be written to, before the first second of work; makes nothing.

    Args:
        folder: The folder, which need not be there.
        option: What it was given by.

    Raises:
        InputError: When a part of its path is a file or a link to nothing, or it cannot be written to.
    """
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists() or path.is_symlink())
    except (OSError, ValueError) as error:  # a name too long, or a zero byte
        raise InputError(f"no folder can be made at {str(folder)[:60]!r}: {error}; give another {option}") from error
    if "\0" in str(folder):
        raise InputError(f"{str(folder)!r} has a zero byte in it; give another {option}")
    if not there.exists():
        raise InputError(
            f"{there} is a link to {there.readlink()}, which is not there; make it, or give another {option}"
        )
    if not there.is_dir():
        raise InputError(f"{there} is a file, so nothing can go to {folder}; give another {option}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{there} cannot be written to, so nothing can go to {folder}; give another {option}")


def versions(logs: str | Path, name: str) -> list[Path]:
    """The folders of all runs of a name, oldest first."""
    folder = Path(logs) / name
    numbered = [
        (int(m[1]), path) for path in folder.glob("version_*") if (m := re.fullmatch(r"version_(\d+)", path.name))
    ]
    return [path for _, path in sorted(numbered)]


def find_checkpoint(logs: str | Path, name: str, which: str, version: str | None = None) -> Path:
    """The ``last`` or ``best`` checkpoint of a run: of the version given, else of the newest numbered one that has it.

    ``last`` is found where any checkpoint of a run is, for another may stand in for it, see `newest_whole`.

    Raises:
        InputError: When there is none.
    """
    folder = Path(logs) / name
    for run in [folder / version] if version else reversed(versions(logs, name)):
        checkpoint = run / CHECKPOINTS / f"{which}.ckpt"
        stand_ins = (PREVIOUS, BEST) if checkpoint.name == LAST else ()
        if any(checkpoint.with_name(file).is_file() for file in (checkpoint.name, *stand_ins)):
            return checkpoint
    named = sorted(path.parents[1].name for path in folder.glob(f"*/{CHECKPOINTS}/{which}.ckpt"))
    raise InputError(
        f"no checkpoint {which!r} of a run named {name!r} under {folder / (version or '')}; "
        + (f"there is one of --version {', '.join(named[:5])}; " if named else "")
        + "start one without --ckpt_path, or name another with --name or --ckpt_path FILE"
    )


def newest_whole(folder: Path) -> tuple[Path, int] | None:
    """Of the checkpoints in a folder the one after most rounds that can be read, and its rounds; None if none can."""
    found: list[tuple[Path, int]] = []
    for path in (folder / name for name in (LAST, PREVIOUS, BEST)):
        with suppress(InputError):
            found.append((path, read(path)["global_step"]))
    return max(found, key=lambda each: each[1], default=None)


def run_of(checkpoint: Path) -> Path | None:
    """The folder of the run that a checkpoint is of, absolute; None for a file from elsewhere.

    A folder is a run's where fedlit has left its record of it. Its name, or a ``config.yaml`` in it, say nothing: they
    may be the user's, whose files must not be overwritten.
    """
    run = checkpoint.resolve().parent.parent
    return run if any((run / record).is_file() for record in (STATE, LOCK)) else None


def shown(path: Path) -> str:
    """A path relative to the current folder if it lies in it, else as it is."""
    here = Path.cwd().resolve()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
