"""``fedlit watch``: show all runs under a folder live in the terminal, from the files that they write.

Each run has a row: its rounds, a curve of the global model's accuracy, the last accuracy, the estimated time left, and
the number of clients that were left out because their fit failed. The runs may be on another machine if their folder is
accessible here. If the output is a file or a pipe, the table is printed once. Ctrl-C ends the display; the runs
continue.
"""

from __future__ import annotations

import time
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from rich.live import Live
from rich.table import Table
from rich.text import Text

from fedlit.command.parser import Parser
from fedlit.core.errors import InputError
from fedlit.core.terminal import Column, Group, Terminal, table_of
from fedlit.runs.state import STATES
from fedlit.runs.stop import Terminated
from fedlit.study.listing import Listed, columns_of_all, list_runs

#: Characters of a curve, from low to high, and those for a terminal with ASCII only.
STEPS, ASCII_STEPS = "▁▂▃▄▅▆▇█", "_.-=*#"
WIDTH = 20  # of a curve, in characters
RECENT = 5  # the time left is estimated from this many rounds
ROWS_BESIDE = 3  # lines of the terminal for the head, the line below the table, and the cursor


def parser() -> Parser:
    """The parser of the command."""
    options = Parser(prog="fedlit watch", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument(
        "logs", type=str, nargs="?", default="logs", help="Folder of the runs; its subfolders are searched too."
    )
    options.add_argument("--every", type=float, default=2.0, help="Seconds between updates.")
    return options


def main(words: Sequence[str]) -> int:
    """Show the runs until Ctrl-C.

    Returns:
        0.
    """
    options = parser().parse_args(list(words))
    logs, console = Path(options.logs), Terminal(soft_wrap=False)
    if not 0.1 <= options.every <= 3600:
        raise InputError(f"--every must be from 0.1 to 3600 seconds, got {options.every:g}; 2 is the default")
    if not console.is_terminal:
        console.print(view(list_runs(logs), logs, console))
        return 0
    try:
        with Live(view(list_runs(logs), logs, console), console=console, auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(options.every)
                live.update(view(list_runs(logs), logs, console), refresh=True)
    except KeyboardInterrupt as stop:
        console.print(view(list_runs(logs), logs, console))
        if isinstance(stop, Terminated):
            raise
    return 0


def view(runs: Sequence[Listed], logs: Path, console: Terminal) -> Group:
    """As many runs as fit the terminal, running ones before the latest others, and a line about all runs."""
    room = max(1, console.height - ROWS_BESIDE) if console.is_terminal else len(runs)
    latest = sorted(runs, key=lambda run: (run.state != "running", -run.changed_at))[:room]
    shown = [run for run in runs if run in latest]
    counts = {state: sum(run.state == state for run in runs) for state in STATES}
    total = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    line = f"{total}: " + ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    hidden = f"; {len(runs) - len(shown)} are not shown" if len(shown) < len(runs) else ""
    return Group(table(shown, logs, console), Text(f"{line}{hidden}"))


def table(runs: Sequence[Listed], logs: Path, console: Terminal) -> Table:
    """A row for each run."""
    steps = STEPS if console.encoding.lower().startswith("utf") else ASCII_STEPS
    columns = [
        *columns_of_all(runs, logs),
        Column("accuracy", [curve(run.accuracies, steps) for run in runs], 2, right=False),
        Column("last", [f"{run.accuracies[-1]:.4f}" if run.accuracies else "-" for run in runs]),
        Column("left", [left(run) for run in runs], 1),
        Column("failed fits", [str(run.rejected or "") for run in runs], 3),
    ]
    return table_of(columns, console)


def curve(values: Sequence[float], steps: str = STEPS, width: int = WIDTH) -> str:
    """Values as a line of characters from the lowest to the highest; if there are too many, the last of each span."""
    finite = [value for value in values if value == value]
    if len(finite) > width:
        finite = [finite[(k + 1) * len(finite) // width - 1] for k in range(width)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    scale = (len(steps) - 1) / (high - low) if high > low else 0.0
    return "".join(steps[round((value - low) * scale)] for value in finite)


def left(run: Listed) -> str:
    """The time left of a running run, from the speed of its last rounds; empty if unknown."""
    recent = run.seconds[-RECENT:]
    if run.state != "running" or run.asked is None or not recent:
        return ""
    return str(timedelta(seconds=round((run.asked - run.done) * sum(recent) / len(recent))))
