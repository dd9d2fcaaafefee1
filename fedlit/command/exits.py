"""How a command ends: its exit status, and how it describes an error."""

from __future__ import annotations

import os
import traceback

from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from fedlit.command.blame import origin, places
from fedlit.core.errors import ElsewhereError, InputError
from fedlit.core.files import find_write_error
from fedlit.core.messages import RESUME_HINT, find_input_error, lost_rank, one_line, out_of_memory, visible
from fedlit.runs.stop import Terminated

#: Exit statuses: success; another rank was lost, a run of a study failed or a resumed run differs; a mistake in the
#: input; any other error, which is shown with its traceback.
DONE, FAILED, MISTAKE, FAULT = 0, 1, 2, 3
INTERRUPTED, TERMINATED = 130, 143  # 128 + SIGINT and 128 + SIGTERM, as in shells


def describe(error: Exception) -> tuple[int, str]:
    """The exit status for an error, and its description: one line if the user can solve the problem."""
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
    """The traceback of an error that is not a mistake in the input, and a line that says whose code raised it."""
    if isinstance(error, ElsewhereError):
        return _shown(f"fedlit: error: {error}")
    traced, found = _shown("".join(traceback.format_exception(error))), origin(error)
    said = one_line(f"{type(error).__name__}: {error}", 300)
    if found is not None and found.owner == "user":
        return f"{traced}\nfedlit: error in {visible(str(found))}: {said}; correct it there, the traceback is above"
    return (
        f"{traced}\nfedlit: internal error in {places(error)[-1]}: {said}; nothing seems wrong with your "
        "input, so please report this to fedlit's developers with the traceback above"
    )


def _shown(text: str) -> str:
    return "\n".join(visible(line) for line in text.splitlines())


def status_of(stop: BaseException | None) -> int | None:
    """The exit status of a process that was asked to stop; None if it was not."""
    if isinstance(stop, SIGTERMException | Terminated):
        return TERMINATED
    return INTERRUPTED if isinstance(stop, KeyboardInterrupt) else None
