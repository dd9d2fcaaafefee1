"""Files of a run: replaced in one move, and one clear line where the disk is full or the folder read-only."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from fedlit.errors import InputError

#: What the system says when it will not store, and the remedy.
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free space or raise the limit"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it writable or give another --logs_dir"),
}


@contextmanager
def replacing(path: Path, mode: str = "w", **options: Any) -> Iterator[IO[Any]]:
    """A new file that takes the place of ``path`` in one move once all of it is written; else ``path`` stays as it was.

    Args:
        path: The file; its folder is made if it is not there.
        mode: ``w`` or ``wb``.
        options: For ``open``.

    Raises:
        InputError: When the system does not let it be written.
    """
    part = path.with_name(f"{path.name}.part")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open(mode, **options) as file:
                yield file
            part.replace(path)
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Name the file where writing it fails.

    Raises:
        InputError: In place of any ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error) from error


@contextmanager
def quiet_threads() -> Iterator[None]:
    """Keep a thread that writes for another, as TensorBoard's does, from showing a traceback of a full disk.

    Who it writes for is told by the same error at the next flush.
    """
    before = threading.excepthook

    def show(failed: threading.ExceptHookArgs) -> None:
        if unwritten(failed.exc_value) is None:
            before(failed)

    threading.excepthook = show
    try:
        yield
    finally:
        threading.excepthook = before


def unwritten(error: BaseException | None) -> InputError | None:
    """What the user can do about the ``OSError`` among an error's causes; None where there is none of a full disk or of
    permissions."""
    while error is not None and not (isinstance(error, OSError) and error.errno in REMEDIES):
        error = error.__cause__ or error.__context__
    return _unwritable(error.filename or "a file of the run", error) if error else None


def _unwritable(path: str | Path, error: OSError) -> InputError:
    remedy = REMEDIES.get(error.errno or 0, "see that there is space and that it can be written")
    return InputError(f"cannot write {path}: {error.strerror or error}; {remedy}, then go on with --ckpt_path last")
