"""Whether data fits into free memory, checked before it is read."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from fedlit.core.errors import InputError

MEMINFO, CONTAINER_LIMIT = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")


def available_bytes() -> int | None:
    """Bytes of memory that a process can still use; None if the system does not tell.

    On Linux this is the kernel's ``MemAvailable``, at most a container's limit; elsewhere it is all memory.
    """
    known = []
    with suppress(OSError):
        known += [int(found[1]) * 1024 for found in re.finditer(r"(?m)^MemAvailable: +(\d+) kB", MEMINFO.read_text())]
    with suppress(OSError, ValueError):  # ValueError: the word "max", which means no limit
        known.append(int(CONTAINER_LIMIT.read_text()))
    with suppress(OSError, ValueError, AttributeError):
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(known, default=None)


def check_fits_memory(what: str, needed: int, remedy: str) -> None:
    """Refuse data that needs more memory than is free.

    Args:
        what: The data, as the message names it.
        needed: Bytes that the data needs.
        remedy: What the user can do, other than use a machine with more memory.

    Raises:
        InputError: Naming both sizes.
    """
    free = available_bytes()
    if free is not None and needed > free:
        raise InputError(
            f"{what} needs {needed / 1e9:.3g} GB of memory, but {free / 1e9:.3g} GB are free; {remedy}, or use a "
            "machine with more memory"
        )
