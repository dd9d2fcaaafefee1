"""From the command to the first round's start, against the imports that no such command can do without."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from statistics import median

from tests.benchmarks.contenders import python
from tests.benchmarks.measure import run
from tests.benchmarks.report import Sheet, machine, with_spread

IMPORTS = (sys.executable, "-c", "import torch, torchvision, lightning")


def startup_sheet(repeats: int, tell: Callable[[str], None]) -> Sheet:
    """Run both in turn, after one run of each to fill the disk cache."""
    seconds: dict[str, list[float]] = {"imports": [], "fedlit fit": []}
    with tempfile.TemporaryDirectory(prefix="fedlit-benchmark-") as logs:
        stop = "--trainer.callbacks+=tests.benchmarks.clock.ExitAtFirstRound"
        commands = {"imports": IMPORTS, "fedlit fit": python("fedlit", "fit", stop, "--logs_dir", logs)}
        for repeat in range(repeats + 1):
            for name, command in commands.items():
                tell(f"start-up, repeat {repeat} of {repeats}: {name}")
                finished = run(command)
                if repeat:
                    seconds[name].append(finished.seconds)
    ratio = median(ours / theirs for ours, theirs in zip(seconds["fedlit fit"], seconds["imports"], strict=True))
    rows = [
        ["import torch, torchvision, lightning", with_spread(seconds["imports"], ".2f"), "1.00"],
        ["fedlit fit, to the first round's start", with_spread(seconds["fedlit fit"], ".2f"), f"{ratio:.2f}"],
    ]
    notes = f"Wall time of the process, bundled data; medians of {repeats} interleaved repeats. {machine()}"
    return Sheet("Start-up", ("process", "seconds", "ratio"), rows, notes)
