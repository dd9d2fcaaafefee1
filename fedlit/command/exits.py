"""How a command ends: its status, and the one line that it says of an error."""

from __future__ import annotations

import os

from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from fedlit.core.errors import InputError
from fedlit.core.files import unwritten
from fedlit.core.messages import GO_ON, lost_rank, mistake, one_line, out_of_memory
from fedlit.runs.stop import Terminated

#: When done; when another rank was lost, a run of a study failed or a resumed run differs; for a mistake in the input.
DONE, FAILED, MISTAKE = 0, 1, 2
INTERRUPTED, TERMINATED = 130, 143  # 128 + SIGINT and SIGTERM, as shells have it


def told(error: Exception) -> tuple[int, str] | None:
    """The status and the line for an error that a user can do something about; None for a fault of the program."""
    said = mistake(error) or unwritten(error) or (error if isinstance(error, MisconfigurationException) else None)
    if said is None and lost_rank(error):
        rank = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))
        return FAILED, f"rank {rank} lost contact with another rank: {one_line(str(error))}; {GO_ON}"
    if said is None and out_of_memory(error):
        said = InputError(f"out of memory: {error}; use a smaller net, batch or data set")
    return (MISTAKE, one_line(str(said))) if said else None


def status_of(stop: BaseException | None) -> int | None:
    """Of a process that was told to stop; None where it was not."""
    if isinstance(stop, Terminated | SIGTERMException):
        return TERMINATED
    return INTERRUPTED if isinstance(stop, KeyboardInterrupt) else None
