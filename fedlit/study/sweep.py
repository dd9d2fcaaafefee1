"""Runs many ``fedlit fit`` side by side, each in its own process, which ends when this one ends.

Ctrl-C and SIGTERM stop them all: each ends at once and can be resumed. If this process is killed, or its terminal is
closed, they are killed by `fedlit.child`, and can be resumed as well.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Protocol, TypeVar

from fedlit.core.terminal import Terminal
from fedlit.engines.workers import CORES_VARIABLE
from fedlit.runs.progress import bars
from fedlit.runs.stop import Terminated

#: After Ctrl-C, which a terminal sends to all its processes, the time for them to end before they are told again; and
#: the time to end after that before they are killed.
HEARD_SECONDS, GRACE_SECONDS = 3.0, 20.0
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


class Processes:
    """Processes that can be stopped together, also those that are only just being started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alive: set[subprocess.Popen[str]] = set()
        self._end: Callable[[subprocess.Popen[str]], None] | None = None

    @contextmanager
    def holding(self, process: subprocess.Popen[str]) -> Iterator[None]:
        """Within it the process is one of these."""
        with self._lock:
            self._alive.add(process)
            if self._end is not None:
                self._end(process)
        try:
            yield
        finally:
            with self._lock:
                self._alive.discard(process)

    def stop(self, reason: KeyboardInterrupt) -> None:
        """End all processes and return when they have ended. Another Ctrl-C meanwhile kills them."""
        try:
            if isinstance(reason, Terminated) or not self._ended(HEARD_SECONDS):
                self._each(subprocess.Popen.terminate)
                self._ended(GRACE_SECONDS)
        except KeyboardInterrupt:
            pass
        self._each(subprocess.Popen.kill)

    def _each(self, end: Callable[[subprocess.Popen[str]], None]) -> None:
        """End all processes, and those that start from now on."""
        with self._lock:
            self._end = end
            for process in self._alive:
                end(process)

    def _ended(self, seconds: float) -> bool:
        """Whether all end within this time."""
        deadline = time.monotonic() + seconds
        while self._alive and time.monotonic() < deadline:
            time.sleep(0.05)
        return not self._alive


def run_all(runs: Sequence[AnyMember], jobs: int, console: Terminal) -> list[AnyMember]:
    """Run all unfinished runs, ``jobs`` at a time; if ``jobs`` > 1, each uses one thread.

    A failure is reported and does not stop other runs. Ctrl-C and SIGTERM stop all; the next call resumes them.

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

        failure = fit(run, environment, on_round, processes)
        if failure is None and not run.finished:  # for example after sys.exit() in a callback
            failure = "its process ended without an error, but the run has not finished"
        progress.remove_task(bar)
        return failure

    failed, processes = [], Processes()
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
        except KeyboardInterrupt as stop:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.stop(stop)
            raise
    return failed


def fit(
    run: Process,
    environment: dict[str, str],
    on_round: Callable[[int], None],
    processes: Processes | None = None,
) -> str | None:
    """Run a process to its end and append its output to ``run.output``.

    Args:
        run: The process.
        environment: The process's environment variables.
        on_round: Called with the number of each finished round, from 1.
        processes: Those that are stopped together, if it is one of several.

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
        (processes or Processes()).holding(process),
    ):
        assert process.stdout is not None
        for line in process.stdout:
            output.write(line)
            if counted := re.match(r"round (\d+)/", line):
                on_round(int(counted[1]))
    return f"exit status {process.returncode}: {line.strip()}" if process.returncode else None
