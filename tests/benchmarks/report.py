"""Tables, on the terminal and in Markdown."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median

from rich.table import Table

from fedlit.runs.setting import processor
from tests.benchmarks.contenders import REFERENCE
from tests.benchmarks.race import Race


@dataclass(frozen=True)
class Sheet:
    """A table: rows of words under column heads, with notes below."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: str

    def rich(self) -> Table:
        """For a terminal."""
        table = Table(title=self.title, caption=self.notes, title_justify="left", caption_justify="left")
        for i, column in enumerate(self.columns):
            table.add_column(column, justify="right" if i else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a README."""
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"### {self.title}\n\n{table}\n\n{self.notes}\n"


def race_sheet(race: Race) -> Sheet:
    """Medians over repeats; ratios are medians of the ratios within a repeat."""
    workload = race.plan.workload
    peak_gflops = median(race.gflops)

    def row(name: str) -> list[str]:
        if name in race.failures:
            return [name, "FAILED", *[""] * (len(columns) - 2)]
        runs = list(race.runs[name].values())
        speed = median(run.samples_per_second for run in runs)
        return [
            name,
            with_spread([run.samples_per_second for run in runs], ",.0f"),
            f"{median(run.ms_per_client for run in runs):.2f}",
            f"{race.ratio(name, lambda run: run.samples_per_second):.2f}",
            f"{100 * speed * workload.flop_per_sample / 1e9 / peak_gflops:.1f} %",
            f"{median(run.wall_ms_per_client for run in runs):.2f}",
            f"{race.ratio(name, lambda run: 1 / run.wall_seconds):.2f}",
            f"{race.peak_mb[name]:,.0f}",
            f"{race.peak_mb[name] / race.peak_mb[REFERENCE]:.2f}",
        ]

    columns = (
        "contender",
        "samples/s",
        "ms/client",
        f"x {REFERENCE}",
        "of sgemm",
        "all in: ms/client",
        f"all in: x {REFERENCE}",
        "memory, MB",
        f"x {REFERENCE}'s",
    )
    names = [*race.runs, *(name for name in race.failures if name not in race.runs)]
    bound, bound_all_in = race.bounds()
    notes = (
        f"{workload.clients:,} clients, {workload.cohort} a round, {workload.rounds} rounds timed; medians of "
        f"{len(race.gflops)} interleaved repeats (least to most). x {REFERENCE}: times its speed, and its memory. "
        f"Memory is of one more run, which is not timed. "
        f"All in: from a round's start to the next, with whatever else the contender does. A sample is "
        f"{workload.flop_per_sample / 1e6:.3g} MFLOP, the sgemm peak {with_spread(race.gflops, '.0f')} GFLOP/s. "
        f"With all products made at that peak and nothing else, rounds would take 1/{bound:.2f} of {REFERENCE}'s time, "
        f"and 1/{bound_all_in:.2f} with a forward pass of the {workload.test_size:,} held-out samples after each; "
        f"only what leaves products out is faster. {machine()}"
    )
    return Sheet(f"{workload.name}: a round", columns, [row(name) for name in names], notes)


def with_spread(values: Sequence[float], form: str) -> str:
    """``median (least to most)``; a single value stands alone."""
    text = f"{median(values):{form}}"
    return text if len(values) == 1 else f"{text} ({min(values):{form}} to {max(values):{form}})"


def machine() -> str:
    """Where this was measured, and how busy it was."""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return f"{processor()}, {os.cpu_count()} cores, torch {version('torch')}, load average {load}."
