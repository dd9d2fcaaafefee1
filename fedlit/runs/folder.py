"""Where runs live: ``LOGS/NAME/version_N``, with checkpoints, scalars, pictures and the config of each."""

from __future__ import annotations

import re
from pathlib import Path

from fedlit.errors import InputError

CHECKPOINTS = "checkpoints"
METRICS = "metrics.csv"


def versions(logs: str | Path, name: str) -> list[Path]:
    """The folders of all runs of a name, oldest first."""
    folder = Path(logs) / name
    numbered = [
        (int(m[1]), path) for path in folder.glob("version_*") if (m := re.fullmatch(r"version_(\d+)", path.name))
    ]
    return [path for _, path in sorted(numbered)]


def find_checkpoint(logs: str | Path, name: str, which: str) -> Path:
    """The ``last`` or ``best`` checkpoint of the newest run of a name that has one.

    Raises:
        InputError: When no run of that name has such a checkpoint.
    """
    for run in reversed(versions(logs, name)):
        checkpoint = run / CHECKPOINTS / f"{which}.ckpt"
        if checkpoint.is_file():
            return checkpoint
    raise InputError(
        f"no checkpoint {which!r} of a run named {name!r} under {Path(logs) / name}; "
        "start one without --ckpt_path, or name another with --name or --ckpt_path FILE"
    )


def run_of(checkpoint: Path) -> Path | None:
    """The run folder that a checkpoint lies in, or None for a file from elsewhere."""
    run = checkpoint.resolve().parent.parent
    return run if checkpoint.parent.name == CHECKPOINTS and re.fullmatch(r"version_\d+", run.name) else None
