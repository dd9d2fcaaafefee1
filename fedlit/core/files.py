"""Files of a run: atomic writes, and a one-line error where the disk is full or the folder is read-only."""

from __future__ import annotations

import errno
import json
import re
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import IO, Any

from fedlit.core.errors import InputError
from fedlit.core.messages import causes, one_line

#: The remedy for each error number of a failed write.
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free space or raise the limit"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it writable or give another --logs_dir"),
}


SPECIAL = "it is not a file but a FIFO, a socket or a device"


class UnwritableError(InputError, OSError):
    """A file that cannot be written: an ``OSError`` whose message says what the user can do."""


def is_special(path: str | Path) -> bool:
    """Whether a path is a FIFO, a socket or a device, which may block a reader forever.

    Raises:
        OSError: If the path does not exist.
        ValueError: If the path contains a zero byte.
    """
    mode = Path(path).stat().st_mode
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def require_regular(path: Path) -> Path:
    """Return the path if it is a regular file or a folder; opening a FIFO would block until something writes to it.

    Raises:
        OSError: If the path does not exist, or is a FIFO, a socket or a device.
        ValueError: As `is_special`.
    """
    if is_special(path):
        raise OSError(errno.EINVAL, SPECIAL, str(path))
    return path


def refuse_special(words: Iterable[Any]) -> None:
    """Refuse words of a command line or config that name a FIFO, a socket or a device, as a whole or after ``=``.

    The parser opens files in many places and would block forever.

    Raises:
        InputError: Naming the path.
    """
    for word in (word for word in words if isinstance(word, str)):
        for name in (word, word.partition("=")[2]):
            try:
                found = is_special(name)
            except (OSError, ValueError):  # most words name nothing
                continue
            if found:
                raise InputError(f"{name}: {SPECIAL}; give the path of a file")


def read_object(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file; an empty one if there is no file.

    Raises:
        InputError: If the file cannot be read or is not a JSON object.
    """
    try:
        content = json.loads(require_regular(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        said = one_line(f"{type(error).__name__}: {error}", 200)
        raise InputError(f"{path} is not a record that fedlit wrote ({said}); remove it") from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path} is not a record that fedlit wrote (a {type(content).__name__}, not a JSON object); remove it"
        )
    return content


@contextmanager
def atomic_write(path: Path, mode: str = "w", **options: Any) -> Iterator[IO[Any]]:
    """Open a new file that replaces ``path`` atomically at the block's end; on an error ``path`` stays as it was.

    Args:
        path: The file; its folder is created if necessary.
        mode: ``w`` or ``wb``.
        options: For ``open``.

    Raises:
        UnwritableError: If the file cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open(mode, **options) as file:
                yield file
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Around code that writes a file: an ``OSError`` becomes an error that names the file.

    Raises:
        UnwritableError: In place of any ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error) from error


@contextmanager
def quiet_threads() -> Iterator[None]:
    """Keep a background thread that writes, such as TensorBoard's, from printing a traceback when the disk is full.

    The thread that logs gets the same error at its next flush.
    """
    before = threading.excepthook

    def show(failed: threading.ExceptHookArgs) -> None:
        if find_write_error(failed.exc_value) is None:
            before(failed)

    threading.excepthook = show
    try:
        yield
    finally:
        threading.excepthook = before


def find_write_error(error: BaseException | None) -> UnwritableError | None:
    """The error to show if a full disk or missing permissions caused an error; else None."""
    for each in causes(error):
        if isinstance(each, OSError) and each.errno in REMEDIES:
            return _unwritable(each.filename or "a file of the run", each)
    return None


def _unwritable(path: str | Path, error: OSError) -> UnwritableError:
    remedy = REMEDIES.get(error.errno or 0, "check free space and permissions")
    reason = error.strerror or error
    return UnwritableError(f"cannot write {path}: {reason}; {remedy}, then resume with --ckpt_path last")


def free_name(parent: Path, name: str) -> str:
    """A name for a new folder, of which no file exists yet: the name itself, else ``NAME-v1``, ``NAME-v2``, ..."""
    names = chain([name], (f"{name}-v{number}" for number in count(1)))
    return next(each for each in names if not (parent / each).exists() or _is_empty(parent / each))


def is_name_of(folder: str, name: str) -> bool:
    """Whether `free_name` may have given a folder this name."""
    return re.fullmatch(rf"{re.escape(name)}(-v\d+)?", folder) is not None


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
