"""One contender, once: its own processes, what it reports, and the peak of its memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
SAMPLE_EVERY_S = 0.2
TIMEOUT_S = 1800


class BenchmarkError(Exception):
    """A contender that failed, or did other work than it was asked to."""


class Finished(NamedTuple):
    """A process that ended with status 0.

    Attributes:
        stdout: What it printed.
        seconds: Wall time from start to end.
        peak_mb: Largest sum over its processes of their proportional set sizes, in 10^6 bytes, sampled every
            ``SAMPLE_EVERY_S``, where it was weighed. Without ``/proc/PID/smaps_rollup``, or not weighed: maximal
            resident set of its largest process.
    """

    stdout: str
    seconds: float
    peak_mb: float

    @property
    def result(self) -> dict[str, Any]:
        """The last line of JSON that it printed."""
        return self.results[-1]

    @property
    def results(self) -> list[dict[str, Any]]:
        """The lines of JSON that it printed, at least one."""
        found = [json.loads(line) for line in self.stdout.splitlines() if line.startswith("{")]
        if not found:
            raise BenchmarkError(f"no result in its output: {self.stdout[-1000:]}")
        return found


def pin(cores: int) -> None:
    """Keep this process and all that it starts to that many cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, *, weigh: bool = False) -> Finished:
    """Run a command in a session of its own; what is left of the session ends with it.

    To weigh it is to sample the memory of its processes, which slows them, the more so the more they are: a run that is
    weighed is not to be timed.

    Raises:
        BenchmarkError: When its status is not 0; after ``TIMEOUT_S`` it is killed.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=errors,
            env=os.environ | dict(environment or {}),
            cwd=ROOT,
            start_new_session=True,
        )
        with Watch(process.pid, weigh) as watch:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            raise BenchmarkError(f"status {process.returncode}: {errors.read()[-2000:]}")
        return Finished(output.read(), seconds, (watch.peak_bytes or usage.ru_maxrss * 1024) / 1e6)


class Watch:
    """Ends a session's processes on leaving or after ``TIMEOUT_S``, and samples their memory if it is to weigh them."""

    def __init__(self, session: int, weigh: bool) -> None:
        self.peak_bytes = 0
        self._session = session
        self._weigh = weigh
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        self._thread.join()
        self._kill()

    def _sample(self) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not self._left.wait(SAMPLE_EVERY_S):
            if self._weigh:
                self.peak_bytes = max(self.peak_bytes, pss_bytes(self._session))
            if time.monotonic() > deadline:
                self._kill()

    def _kill(self) -> None:
        try:
            os.killpg(self._session, signal.SIGKILL)
        except ProcessLookupError:
            return


def pss_bytes(session: int) -> int:
    """Proportional set size of all processes of a session; 0 where the system does not tell."""
    total_kb = 0
    for entry in os.scandir("/proc") if Path("/proc").is_dir() else ():
        try:
            if entry.name.isdigit() and os.getsid(int(entry.name)) == session:
                lines = Path(entry.path, "smaps_rollup").read_text().splitlines()
                total_kb += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except (OSError, StopIteration):  # it has just ended
            continue
    return total_kb * 1024
