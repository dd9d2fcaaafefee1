"""How fast fedlit is beside a loop written by hand.

    python -m tests.benchmarks                      everything; an hour on two quiet cores
    python -m tests.benchmarks --quick              does the benchmark itself work? a few minutes, no use as timings
    python -m tests.benchmarks --workload w1 --only LoopEngine,fit --repeats 3
    python -m tests.benchmarks --profile            where a round of w1 goes

Run from the repository's root, on a machine that does nothing else. Every run of every contender is a fresh process (or
several), kept to two cores; contenders take turns, so that a slow spell hits all. A run is one round to warm up and
then a fixed number of timed ones. The samples and optimizer steps of every round are counted and compared with what
its cohort needs; a contender that did other work, or failed, is named below the tables, and the status is 1.

Contenders: ``loop`` (written by hand: one process, two threads; the reference of all ratios), ``processes`` (by hand:
two workers of one thread), each also with ``channels-last``; every engine of ``fedlit.engines`` from Python with
evaluation, logging and checkpoints off; and the command ``fedlit fit`` with no engine named, as it is, with one and two
ranks, and (``fit-plain``) with a network of PyTorch's modules alone, with validation, metrics, TensorBoard and
checkpoints on. For the command, the columns "all in" include them, and the others are the rounds alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.benchmarks.contenders import python
from tests.benchmarks.measure import pin, run
from tests.benchmarks.population import population_sheets
from tests.benchmarks.race import Race, prepared, race
from tests.benchmarks.report import Sheet, race_sheet
from tests.benchmarks.startup import startup_sheet
from tests.benchmarks.workloads import CORES, W1, W2, quick

#: Columns where the output is a file or a pipe.
FILE_WIDTH = 160
#: Title, engine, environment. The default engine may leave the fits to other processes, where no profiler looks.
PROFILES: tuple[tuple[str, tuple[str, ...], dict[str, str]], ...] = (
    ("A round with the default engine, seen from the main process", (), {}),
    ("A round with LoopEngine on one thread: what a worker does", ("LoopEngine",), {"OMP_NUM_THREADS": "1"}),
)
SECTIONS = ("w1", "w2", "startup", "population")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 0 when all contenders did their work."""
    options = _parser().parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    pin(CORES)
    if options.profile:
        with prepared(quick(W1) if options.quick else W1) as (_, folder):
            for title, engine, environment in PROFILES:
                console.rule(title)
                finished = run(python("tests.benchmarks.profile", folder, *engine), environment)
                console.print(finished.stdout, markup=False, highlight=False, soft_wrap=True)
        return 0
    repeats = options.repeats or (1 if options.quick else 5)
    sheets: list[Sheet] = []
    races: list[Race] = []

    def show(new: Sequence[Sheet]) -> None:
        for sheet in new:
            console.print(sheet.rich())
        sheets.extend(new)
        if options.markdown:
            options.markdown.write_text("\n".join(sheet.markdown() for sheet in sheets))

    with console.status("") as status:
        for workload in (W1, W2):
            if options.workload in (workload.name, "all"):
                only = set(options.only.split(",")) if options.only else set()
                races.append(race(quick(workload) if options.quick else workload, repeats, only, status.update))
                show([race_sheet(races[-1])])
        if options.workload in ("startup", "all"):
            show([startup_sheet(repeats, status.update)])
        if options.workload in ("population", "all"):
            new_sheets, new_races = population_sheets(repeats, options.quick, status.update)
            races.extend(new_races)
            show(new_sheets)

    for outcome in races:
        for name, reason in outcome.failures.items():
            console.print(f"FAILED: {name} on {outcome.plan.workload.name}: {reason}", style="red", markup=False)
    return int(any(outcome.failures for outcome in races))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workload", choices=(*SECTIONS, "all"), default="all", help="one part alone")
    parser.add_argument("--repeats", type=int, help="runs of each contender; 5, with --quick 1")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--only", metavar="NAMES", help="contenders of w1 and w2 beside loop, separated by commas")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there too, as they come")
    parser.add_argument("--profile", action="store_true", help="instead, profile rounds of w1")
    return parser


if __name__ == "__main__":
    sys.exit(main())
