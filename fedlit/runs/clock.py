"""Event files after the clock was set back: TensorBoard reads them in the order of their names, which hold the time."""

from __future__ import annotations

import re
from pathlib import Path

#: What TensorBoard's writers call a file: the second in which it was begun, then host, process and number.
EVENTS = re.compile(r"events\.out\.tfevents\.(\d{10})\.(.*)", re.DOTALL)


def put_before(folder: Path, now: float) -> int:
    """Rename event files from the future, so that TensorBoard reads a file that is begun now after all of them.

    Their order among themselves stays.

    Args:
        folder: Of a run.
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
