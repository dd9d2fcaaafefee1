"""One contender, once: its own processes, what it reports, and the peak of its memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
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
            ``SAMPLE_EVERY_S``. Without ``/proc/PID/smaps_rollup``: maximal resident set of its largest process.
    """

    stdout: str
    seconds: float
    peak_mb: float

    @property
    def result(self) -> dict[str, Any]:
        """The last line of JSON that it printed."""
        for line in reversed(self.stdout.splitlines()):
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise BenchmarkError(f"no result among its output: {self.stdout[-1000:]}")


def pin(cores: int) -> None:
    """Keep this process and all that it starts to that many cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Finished:
    """Run a command in a session of its own, which ends with it.

    Raises:
        BenchmarkError: When its status is not 0, or it takes longer than ``TIMEOUT_S``.
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
        peak_bytes = 0
        try:
            while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
                if time.perf_counter() - started > TIMEOUT_S:
                    raise BenchmarkError(f"not done after {TIMEOUT_S} s")
                peak_bytes = max(peak_bytes, _pss_bytes(process.pid))
                time.sleep(SAMPLE_EVERY_S if time.perf_counter() - started > 1 else 0.005)
            seconds = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(ended[1])
        finally:
            _end(process.pid)
        output.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            raise BenchmarkError(f"status {process.returncode}: {errors.read()[-2000:]}")
        return Finished(output.read(), seconds, (peak_bytes or ended[2].ru_maxrss * 1024) / 1e6)


def _pss_bytes(session: int) -> int:
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


def _end(session: int) -> None:
    try:
        os.killpg(session, signal.SIGKILL)
    except ProcessLookupError:
        return
