"""From the process that Flower starts for a message to the one that trains, which is started where there is none."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from fedlit.core.errors import InputError

#: The key of a SuperNode's ``--node-config`` that gives the path of the site's file.
KEY = "site"
#: What the process that trains says to whoever asks, before it listens.
READY = b"ready"
#: How many seconds the process that trains may take until it can be asked: it loads PyTorch and Lightning.
START_SECONDS = 300.0


def relay(frame: bytes, site: Path, project: Path, words: Sequence[str], run: int) -> bytes:
    """The answer to a frame, of the process that trains at this site for a run.

    Args:
        frame: The server's question.
        site: The site's file.
        project: Folder of the project, which may have classes of its own.
        words: Those of ``fedlit fit`` that the federation is run by.
        run: Flower's number of the run.

    Raises:
        RuntimeError: When that process cannot be started, or dies.
    """
    folder = _private_folder()
    name = hashlib.blake2b(str(site).encode(), digest_size=8).hexdigest()
    socket, log = folder / f"{name}-{run}.sock", folder / f"{name}.log"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two tasks at once start one process
        if (pipe := _connected(socket)) is None:
            for other in folder.glob(f"{name}-*.sock"):
                other.unlink()  # a process whose socket is gone ends: of an earlier run, or one that died
            pipe = _started(socket, log, site, project, words)
    with pipe:
        try:
            pipe.send_bytes(frame)
            return pipe.recv_bytes()
        except (EOFError, OSError) as error:
            socket.unlink(missing_ok=True)
            raise RuntimeError(f"the process that trains died; is there memory enough? {_last_line(log)}") from error


def _connected(socket: Path) -> Connection | None:
    try:
        with contextlib.chdir(socket.parent):  # the address of a socket may have a hundred characters, and no more
            pipe = Client(socket.name, "AF_UNIX")
        return pipe if pipe.recv_bytes() == READY else None
    except (EOFError, OSError):  # there is none, or it was about to end
        return None


def _started(socket: Path, log: Path, site: Path, project: Path, words: Sequence[str]) -> Connection:
    """A connection to a new process."""
    where = [str(site), str(project), str(socket), str(os.getppid())]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "fedlit.flower.resident", *where, *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if pipe := _connected(socket):
            return pipe
        time.sleep(0.05)
    raise RuntimeError(f"the process that trains did not start: {_last_line(log)}")


def _private_folder() -> Path:
    """A folder that nobody else can enter.

    Raises:
        InputError: When somebody else has made it.
    """
    folder = Path(tempfile.gettempdir()) / f"fedlit-site-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or folder.is_symlink():
        raise InputError(f"{folder} is not this user's alone; remove it, or set TMPDIR to a folder of your own")
    return folder


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")


def path_in(node_config: Mapping[str, Any]) -> Path:
    """The path of the site's file in what its SuperNode was started with.

    Raises:
        InputError: When there is none.
    """
    given = node_config.get(KEY)
    if not isinstance(given, str) or not Path(given).expanduser().is_file():
        raise InputError(
            f"this SuperNode was started with {KEY}={given!r}, which is no file; start it with --node-config "
            f"'{KEY}=\"/path/of/the/site.yaml\"'"
        )
    return Path(given).expanduser().absolute()
