"""The folders of runs: ``LOGS/NAME/version_N``, with checkpoints, scalars, pictures and config.

A run may have another folder name than ``version_N``; it is then found by that name only.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from fedlit.core.checkpoint import BEST, DEEPEST, LAST, PREVIOUS, read
from fedlit.core.errors import InputError

CHECKPOINTS = "checkpoints"
OWN_CHECKPOINTS = "own_checkpoints"  # for the user's ModelCheckpoint callbacks that have no folder
CONFIG = "config.yaml"
UNTIL_ROUND = "config_until_round_{}.yaml"  # of a run that was resumed with other settings
METRICS_CSV = "metrics.csv"
#: The checkpoints from which a run may be resumed, the latest first.
RESUMABLE = (LAST, PREVIOUS, BEST)
STATE = "run.json"
LOCK = "run.lock"
MAX_NAME = 200  # bytes of a run's name; file systems have 255
BEHIND_LINKS = 4  # from the folder of all runs over those of a study and a name to that of a run
STUDY = "study.json"  # in the folder of a study: its definition


def folder_name(name: str, what: str) -> str:
    """The name, if it is valid as a folder name in any file system and as a word in any shell.

    Raises:
        InputError: If it is not valid; ``what`` names its option.
    """
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+=,@-]*", name) is None or len(name) > MAX_NAME:
        raise InputError(
            f"{what} must be a folder name of at most {MAX_NAME} letters, digits, _ - . + =, got {name[:60]!r}; give "
            "another name"
        )
    return name


def plain_name(name: str) -> str:
    """The name of a run, if it is valid as the name of one folder.

    Raises:
        InputError: If it is not valid.
    """
    if name in (".", "..") or re.search(r"[/\\\x00-\x1f]", name) or not 0 < len(name.encode()) <= MAX_NAME:
        raise InputError(
            f"--name must be the name of one folder, without slashes and at most {MAX_NAME} bytes, got "
            f"{name[:60]!r}; give another --name"
        )
    return name


def usable(folder: Path, option: str = "--logs_dir") -> None:
    """Refuse early a folder to which runs cannot be written; nothing is created.

    Args:
        folder: The folder, which need not exist.
        option: The option that named it.

    Raises:
        InputError: If a part of its path is a file or a broken link, or if it is not writable.
    """
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists() or path.is_symlink())
    except (OSError, ValueError) as error:  # a name too long, or a zero byte
        raise InputError(f"the folder {str(folder)[:60]!r} cannot be made: {error}; give another {option}") from error
    if "\0" in str(folder):
        raise InputError(f"{str(folder)!r} contains a zero byte; give another {option}")
    if not there.exists():
        raise InputError(
            f"{there} is a link to {there.readlink()}, which does not exist; create it, or give another {option}"
        )
    if not there.is_dir():
        raise InputError(f"{there} is a file, so nothing can be written to {folder}; give another {option}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{there} is not writable, so nothing can be written to {folder}; give another {option}")


def versions(logs: str | Path, name: str) -> list[Path]:
    """The folders of all runs of a name, oldest first."""
    folder = Path(logs) / name
    numbered = [
        (int(m[1]), path) for path in folder.glob("version_*") if (m := re.fullmatch(r"version_(\d+)", path.name))
    ]
    return [path for _, path in sorted(numbered)]


def files_below(folder: Path, name: str) -> list[Path]:
    """All files of a name in a folder and below it, sorted; each once, by a path without links if it has one.

    Links to folders are followed ``BEHIND_LINKS`` folders deep, as a run, a study or all runs may have been moved to
    another disk and replaced by a link. They are not followed further, as they may lead to anything.
    """
    found: dict[Path, Path] = {}
    links: list[Path] = []
    for here, folders, files in os.walk(folder):
        if name in files and (path := Path(here) / name).exists():  # a link may lead to nothing
            found[path.parent.resolve()] = path
        links += [path for each in folders if (path := Path(here) / each).is_symlink()]
    for link in sorted(links):
        for path in (path for depth in range(BEHIND_LINKS) for path in sorted(link.glob("*/" * depth + name))):
            found.setdefault(path.parent.resolve(), path)
    return sorted(found.values())


def find_checkpoint(logs: str | Path, name: str, which: str, version: str | None = None) -> Path:
    """The ``last`` or ``best`` checkpoint of a run: of the given version, else of the newest numbered one that has it.

    A run with any checkpoint counts as having ``last``, as another can replace it, see `newest_intact`.

    Raises:
        InputError: If there is none.
    """
    folder = Path(logs) / name
    for run in [folder / version] if version else reversed(versions(logs, name)):
        checkpoint = run / CHECKPOINTS / f"{which}.ckpt"
        if checkpoint.is_file() or (checkpoint.name == LAST and has_checkpoint(run)):
            return checkpoint
    named = sorted(path.parents[1].name for path in folder.glob(f"*/{CHECKPOINTS}/{which}.ckpt"))
    raise InputError(
        f"there is no checkpoint {which!r} of a run named {name!r} under {folder / (version or '')}; "
        + (f"these have one: --version {', '.join(named[:5])}; " if named else "")
        + "start a run without --ckpt_path, or name another with --name or --ckpt_path FILE"
    )


def has_checkpoint(run: Path) -> bool:
    """Whether a run can be resumed: from its last checkpoint, or from another if that is missing."""
    return any((run / CHECKPOINTS / name).is_file() for name in RESUMABLE)


def newest_intact(folder: Path) -> tuple[Path, int] | None:
    """The readable checkpoint with the most rounds in a folder, and its rounds; None if none is readable."""
    found: list[tuple[Path, int]] = []
    for path in (folder / name for name in RESUMABLE):
        with suppress(InputError):
            found.append((path, read(path)["global_step"]))
    return max(found, key=lambda each: each[1], default=None)


def run_of(checkpoint: Path) -> Path | None:
    """The absolute folder of the run to which a checkpoint belongs; None if it is outside of a run's folder.

    A folder is a run's only if it has fedlit's record. Its name, or a ``config.yaml`` in it, prove nothing: they may be
    the user's, whose files must not be overwritten. A checkpoint of the user's ``ModelCheckpoint`` may be up to
    ``DEEPEST`` folders deeper than fedlit's, as each slash in its name (``{global/accuracy:.3f}``) makes a folder.
    """
    above = checkpoint.resolve().parents[1 : 2 + DEEPEST]
    return next((run for run in above if has_record(run)), None)


def has_record(folder: Path) -> bool:
    """Whether a folder has fedlit's record of a run."""
    return any((folder / name).is_file() for name in (STATE, LOCK))


def shown(path: Path) -> str:
    """A path, relative to the current folder if it is inside it."""
    here = Path.cwd().resolve()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
