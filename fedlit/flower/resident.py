"""The process that trains at a site: it stays from task to task, so that PyTorch is loaded once and not at every task.

Flower starts a process for each message. That process loads nothing but Flower: it passes the frame on to this one,
over a socket in a folder that only the same user can enter, and brings the answer back. This process ends when the
SuperNode does, or when no task has come for as long as the site's file says.

    python -m fedlit.flower.resident SITE.YAML PROJECT SOCKET PARENT WORDS...
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Listener
from pathlib import Path

from fedlit.flower.built import built
from fedlit.flower.place import Place, read_place
from fedlit.flower.relay import READY

#: Seconds between two looks whether the SuperNode is still there.
LOOK = 2.0
#: Seconds that the first question may take to come.
FIRST = 60.0


def serve(place: Place, words: Sequence[str], socket: str, parent: int) -> None:
    """Answer questions until the parent process or the socket is gone, or none has come for ``place.keep_alive_s``."""
    trainer = built(place, words)
    with contextlib.chdir(Path(socket).parent):  # the address of a socket may have a hundred characters, and no more
        listener = Listener(Path(socket).name, "AF_UNIX")
    with listener:
        ends_at, lock = [time.monotonic() + FIRST], threading.Lock()

        def watch() -> None:
            while True:
                time.sleep(LOOK)
                with lock:
                    is_busy = math.isinf(ends_at[0])
                    is_over = not is_busy and (time.monotonic() > ends_at[0] or not Path(socket).exists())
                    if is_over or not _is_there(parent):
                        Path(socket).unlink(missing_ok=True)
                        os._exit(0)

        threading.Thread(target=watch, name="end", daemon=True).start()
        while True:
            with listener.accept() as pipe, contextlib.suppress(EOFError, OSError):  # of one who asked and has gone
                with lock:
                    ends_at[0] = math.inf
                pipe.send_bytes(READY)  # one who does not hear it asks another process
                pipe.send_bytes(trainer.answer(pipe.recv_bytes()))
            ends_at[0] = time.monotonic() + place.keep_alive_s


def _is_there(process: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for, as in a container, does not."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except ProcessLookupError:
        return False
    except OSError:  # another user's, or a system without /proc
        return True


def main(arguments: Sequence[str]) -> None:
    """Run as a process."""
    path, project, socket, parent, *words = arguments
    sys.path.append(project)  # classes of the project's own
    del sys.argv[1:]  # which LightningCLI would warn of
    serve(read_place(Path(path)), words, socket, int(parent))


if __name__ == "__main__":
    main(sys.argv[1:])
