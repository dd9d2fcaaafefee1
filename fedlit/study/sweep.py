"""Runs many ``fedlit fit`` side by side, each in its own process, which ends when this one ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import timedelta
from pathlib import Path
from typing import Protocol, TypeVar

from fedlit.core.terminal import Terminal
from fedlit.engines.workers import CORES_VARIABLE
from fedlit.runs.progress import bars

FEDLIT = (sys.executable, "-m", "fedlit.child")


class Process(Protocol):
    """A process that `fit` runs."""

    @property
    def output(self) -> Path:
        """The file to which the output of all attempts is appended."""

    def command(self) -> list[str]:
        """The command that starts it, or resumes it from its last checkpoint."""


class Member(Process, Protocol):
    """A run among many, which can be started and resumed."""

    @property
    def rounds(self) -> int:
        """The number of rounds to train."""

    @property
    def rounds_done(self) -> int:
        """The number of finished rounds; ``rounds`` if nothing is left to do."""

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""


AnyMember = TypeVar("AnyMember", bound=Member)


def run_all(runs: Sequence[AnyMember], jobs: int, console: Terminal) -> list[AnyMember]:
    """Run all unfinished runs, ``jobs`` at a time; if ``jobs`` > 1, each uses one thread.

    A failure is reported and does not stop other runs. Ctrl-C stops all; the next call resumes them.

    Returns:
        The runs that failed.
    """
    done = {run: run.rounds_done for run in runs}
    ended = sum(run.finished for run in runs)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"} | (
        {"OMP_NUM_THREADS": "1", CORES_VARIABLE: "1"} if jobs > 1 else {}
    )
    progress = bars(console, speed_seconds=300.0)  # a long period, as the rounds of different runs differ
    everything = progress.add_task(
        "rounds of all runs", total=sum(run.rounds for run in runs), completed=sum(done.values())
    )

    def one(run: AnyMember) -> str | None:
        bar = progress.add_task(str(run), total=run.rounds, completed=done[run])

        def on_round(round: int) -> None:
            progress.advance(everything, round - done[run])
            progress.update(bar, completed=round)
            done[run] = round

        failure = fit(run, environment, on_round)
        if failure is None and not run.finished:  # for example after sys.exit() in a callback
            failure = "its process ended without an error, but the run has not finished"
        progress.remove_task(bar)
        return failure

    failed = []
    with progress, ThreadPoolExecutor(jobs) as pool:
        started = {pool.submit(one, run): run for run in runs if not run.finished}
        try:
            for future in as_completed(started):
                run, failure = started[future], future.result()
                if failure:
                    failed.append(run)
                outcome = f"failed: {failure}; full output in {run.output}" if failure else "finished"
                ended += 1
                left = progress.tasks[everything].time_remaining
                time_left = f", {timedelta(seconds=int(left))} left" if left and ended < len(runs) else ""
                console.print(f"{run}: {outcome} ({ended} of {len(runs)} runs{time_left})")
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    return failed


def fit(run: Process, environment: dict[str, str], on_round: Callable[[int], None]) -> str | None:
    """Run a process to its end and append its output to ``run.output``.

    Args:
        run: The process.
        environment: The process's environment variables.
        on_round: Called with the number of each finished round, from 1.

    Returns:
        Its exit status and last line if it failed, else None.
    """
    run.output.parent.mkdir(parents=True, exist_ok=True)
    line = "no output"
    with (
        run.output.open("a", buffering=1, encoding="utf-8") as output,
        subprocess.Popen(
            run.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",  # the user's own code may print other encodings
            env=environment,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            output.write(line)
            if counted := re.match(r"round (\d+)/", line):
                on_round(int(counted[1]))
    return f"exit status {process.returncode}: {line.strip()}" if process.returncode else None
