"""How a command ends: its status, and what it says of an error."""

from __future__ import annotations

import os
import traceback

from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from fedlit.command.blame import origin, places
from fedlit.core.errors import ElsewhereError, InputError
from fedlit.core.files import find_write_error
from fedlit.core.messages import RESUME_HINT, find_input_error, lost_rank, one_line, out_of_memory, visible
from fedlit.runs.stop import Terminated

#: When done; when another rank was lost, a run of a study failed or a resumed run differs; for a mistake in the input;
#: for any other error, which is shown with its traceback.
DONE, FAILED, MISTAKE, FAULT = 0, 1, 2, 3
INTERRUPTED, TERMINATED = 130, 143  # 128 + SIGINT and SIGTERM, as shells have it


def told(error: Exception) -> tuple[int, str]:
    """The status of a command that ended with an error, and what it says: one line where a user can do something."""
    said = (
        find_input_error(error)
        or find_write_error(error)
        or (error if isinstance(error, MisconfigurationException) else None)
    )
    if said is None and lost_rank(error):
        rank = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))
        return (
            FAILED,
            f"fedlit: error: rank {rank} lost contact with another rank: {one_line(str(error))}; {RESUME_HINT}",
        )
    if said is None and out_of_memory(error):
        said = InputError(f"out of memory: {error}; use a smaller net, batch or data set")
    return (MISTAKE, f"fedlit: error: {one_line(str(said))}") if said else (FAULT, _fault(error))


def _fault(error: Exception) -> str:
    """The traceback of an error that is no mistake in what was given, and in whose code it came up."""
    if isinstance(error, ElsewhereError):
        return _shown(f"fedlit: error: {error}")
    traced, found = _shown("".join(traceback.format_exception(error))), origin(error)
    said = one_line(f"{type(error).__name__}: {error}", 300)
    if found is not None and found.owner == "user":
        return f"{traced}\nfedlit: error in {visible(str(found))}: {said}; mend it there, the traceback is above"
    return (
        f"{traced}\nfedlit: internal error in {places(error)[-1]}: {said}; as far as fedlit can tell nothing that was "
        "given is wrong: report it to fedlit's developers with the traceback above"
    )


def _shown(text: str) -> str:
    return "\n".join(visible(line) for line in text.splitlines())


def status_of(stop: BaseException | None) -> int | None:
    """Of a process that was told to stop; None where it was not."""
    if isinstance(stop, Terminated | SIGTERMException):
        return TERMINATED
    return INTERRUPTED if isinstance(stop, KeyboardInterrupt) else None
