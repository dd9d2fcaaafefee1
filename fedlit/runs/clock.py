"""Renames event files if the clock was set back, as TensorBoard reads them in the order of the times in their names."""

from __future__ import annotations

import re
from pathlib import Path

#: Name of an event file: the second in which it was created, then host, process and number.
EVENTS = re.compile(r"events\.out\.tfevents\.(\d{10})\.(.*)", re.DOTALL)


def put_before(folder: Path, now: float) -> int:
    """Rename event files from the future, so that TensorBoard reads a file that is created now after all of them.

    Their order does not change.

    Args:
        folder: The run's folder.
        now: The time, in seconds.

    Returns:
        How many were renamed.
    """
    found = sorted(
        (path.name for path in folder.glob("events.out.tfevents.*") if EVENTS.match(path.name)), reverse=True
    )
    before, renamed = int(now), 0
    if not found or int(EVENTS.sub(r"\1", found[0])) <= before:
        return 0
    for name in found:
        match = EVENTS.match(name)
        assert match is not None
        second = min(int(match[1]), before - 1)
        before = second
        if second < int(match[1]):
            (folder / name).rename(folder / f"events.out.tfevents.{max(second, 0):010d}.{match[2]}")
            renamed += 1
    return renamed
