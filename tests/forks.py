"""Real ``fedlit`` processes without the seconds that importing takes: forks of a server that has imported everything.

A process can be given a moment at which it sends itself a signal, by the count of what it does to its run's files or of
the hooks that Lightning calls: any point of a run has an address.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, NamedTuple

SERVER = get_context("forkserver")
PRELOADED = "fedlit.cli fedlit.command.dispatch fedlit.plots pandas torch.utils.tensorboard.summary"
SERVER.set_forkserver_preload(PRELOADED.split())

#: What is done to files, as Python's audit events call it.
FILE_EVENTS = ("open", "os.rename", "os.remove", "os.link", "os.mkdir")


class Strike(NamedTuple):
    """A signal to oneself.

    Attributes:
        moment: What is counted: events on files under the folder of all runs, or hooks of Lightning's.
        at: The signal is sent just before the so-manyth, from 1; 0 never, the counts are written to ``counts.txt``.
        signal: Its number.
    """

    moment: Literal["file", "hook"]
    at: int
    signal: int


def start(words: list[str], logs: Path, strike: Strike | None = None) -> BaseProcess:
    """Begin ``fedlit WORDS`` in a process of its own, beside ``LOGS``; what it says is added to ``LOGS.log``."""
    process = SERVER.Process(target=_fedlit, args=(words, logs, strike))
    process.start()
    return process


def said(logs: Path) -> str:
    """What the processes that were started on a folder of runs have said so far."""
    return logs.with_suffix(".log").read_text()


def _fedlit(words: list[str], logs: Path, strike: Strike | None) -> None:
    output = os.open(logs.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    import torch

    from fedlit.cli import main

    torch.set_num_threads(1)
    counts = {"file": 0, "hook": 0}

    def count(moment: str) -> None:
        counts[moment] += 1
        if strike and (strike.moment, strike.at) == (moment, counts[moment]):
            os.kill(os.getpid(), strike.signal)

    os.chdir(logs.parent)
    pid = os.getpid()

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        if event in FILE_EVENTS and os.getpid() == pid and Path(str(arguments[0])).absolute().is_relative_to(logs):
            count("file")

    if strike:
        _count_hooks(count)
        sys.addaudithook(on_event)
    status = main(words)
    if strike and not strike.at:
        logs.with_suffix(".counts").write_text(f"{counts['file']} {counts['hook']}")
    with suppress(OSError):
        sys.stdout.flush()
    sys.exit(status)


def _count_hooks(count: Any) -> None:
    from lightning.pytorch.trainer import call

    hooks = call._call_callback_hooks

    def counted(*arguments: Any, **keywords: Any) -> None:
        count("hook")
        hooks(*arguments, **keywords)

    call._call_callback_hooks = counted


def hold(folder: Path) -> None:
    """Hold the claim until killed."""
    import time

    from fedlit.runs.state import FolderLock

    lock = FolderLock(folder)
    (folder / "held").touch()
    time.sleep(60)
    lock.release()
