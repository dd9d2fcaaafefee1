"""Whether what is to be read fits the memory that is free."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from fedlit.core.errors import InputError

MEMINFO, CONTAINER_LIMIT = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")


def available_bytes() -> int | None:
    """Bytes that a process can take now; None where the system does not say.

    On Linux what the kernel calls available, at most a container's limit; elsewhere all memory there is.
    """
    known = []
    with suppress(OSError):
        known += [int(found[1]) * 1024 for found in re.finditer(r"(?m)^MemAvailable: +(\d+) kB", MEMINFO.read_text())]
    with suppress(OSError, ValueError):  # the word max is no limit
        known.append(int(CONTAINER_LIMIT.read_text()))
    with suppress(OSError, ValueError, AttributeError):
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(known, default=None)


def refuse_larger(what: str, needed: int, remedy: str) -> None:
    """Refuse what takes more memory than is free.

    Args:
        what: What is to be read.
        needed: Bytes that it takes.
        remedy: What else can be done than to use a machine with more memory.

    Raises:
        InputError: Naming both sizes.
    """
    free = available_bytes()
    if free is not None and needed > free:
        raise InputError(
            f"{what} takes {needed / 1e9:.3g} GB of memory and {free / 1e9:.3g} GB are free; {remedy}, or use a "
            "machine with more memory"
        )
