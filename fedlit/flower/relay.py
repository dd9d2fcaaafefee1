"""Passes frames from the process that Flower starts for a message to the training process, and starts that if
needed."""

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
#: Sent by the training process to a relay process before it reads the question.
READY = b"ready"
#: Seconds that the training process may take to start; it imports PyTorch and Lightning.
START_SECONDS = 300.0


def relay(frame: bytes, site: Path, project: Path, words: Sequence[str], run: int) -> bytes:
    """The answer to a frame from the training process of this site and run.

    Args:
        frame: The server's question.
        site: The site's file.
        project: Folder of the project, which may have classes of its own.
        words: The arguments of ``fedlit fit`` at the server.
        run: Flower's number of the run.

    Raises:
        RuntimeError: If the training process cannot be started, or dies.
    """
    folder = _private_folder()
    name = hashlib.blake2b(str(site).encode(), digest_size=8).hexdigest()
    socket, log = folder / f"{name}-{run}.sock", folder / f"{name}.log"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two tasks at the same time start only one process
        if (pipe := _connected(socket)) is None:
            for other in folder.glob(f"{name}-*.sock"):
                other.unlink()  # a process without its socket ends: one of an earlier run, or one that died
            pipe = _started(socket, log, site, project, words)
    with pipe:
        try:
            pipe.send_bytes(frame)
            return pipe.recv_bytes()
        except (EOFError, OSError) as error:
            socket.unlink(missing_ok=True)
            raise RuntimeError(f"the training process died, perhaps for lack of memory: {_last_line(log)}") from error


def _connected(socket: Path) -> Connection | None:
    try:
        with contextlib.chdir(socket.parent):  # a socket's path is limited to about a hundred characters
            pipe = Client(socket.name, "AF_UNIX")
        return pipe if pipe.recv_bytes() == READY else None
    except (EOFError, OSError):  # there is no process, or it is about to end
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
    raise RuntimeError(f"the training process did not start: {_last_line(log)}")


def _private_folder() -> Path:
    """A folder that only this user can access.

    Raises:
        InputError: If another user owns it or can access it.
    """
    folder = Path(tempfile.gettempdir()) / f"fedlit-site-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or folder.is_symlink():
        raise InputError(f"{folder} can be accessed by other users; remove it, or set TMPDIR to your own folder")
    return folder


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")


def path_in(node_config: Mapping[str, Any]) -> Path:
    """The path of the site's file, from the configuration of its SuperNode.

    Raises:
        InputError: If there is no such file.
    """
    given = node_config.get(KEY)
    if not isinstance(given, str) or not Path(given).expanduser().is_file():
        raise InputError(
            f"this SuperNode was started with {KEY}={given!r}, which is not a file; start it with --node-config "
            f"'{KEY}=\"/path/of/the/site.yaml\"'"
        )
    return Path(given).expanduser().absolute()
