"""The training process of a site. It lives from task to task, so that PyTorch is imported only once.

Flower starts a relay process for each message, which imports nothing but Flower. It passes the frame to this process
over a socket in a folder that only the same user can access, and returns the answer. This process ends when the
SuperNode ends, or when no task has arrived for ``keep_alive_s`` seconds.

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
from fedlit.flower.relay import READY
from fedlit.flower.site_file import SiteFile, read_site_file

#: Seconds between two checks that the SuperNode still runs.
LOOK = 2.0
#: Seconds to wait for the first question.
FIRST = 60.0


def serve(file: SiteFile, words: Sequence[str], socket: str, parent: int) -> None:
    """Answer questions until the parent process or the socket is gone, or none has come for ``file.keep_alive_s``."""
    trainer = built(file, words)
    with contextlib.chdir(Path(socket).parent):  # a socket's path is limited to about a hundred characters
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
            with listener.accept() as pipe, contextlib.suppress(EOFError, OSError):  # the relay process has ended
                with lock:
                    ends_at[0] = math.inf
                pipe.send_bytes(READY)  # a relay process that does not receive it starts another process
                pipe.send_bytes(trainer.answer(pipe.recv_bytes()))
            ends_at[0] = time.monotonic() + file.keep_alive_s


def _is_there(process: int) -> bool:
    """Whether a process runs; a zombie, as in containers, does not."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except ProcessLookupError:
        return False
    except OSError:  # another user's process, or a system without /proc
        return True


def main(arguments: Sequence[str]) -> None:
    """Run as a process."""
    path, project, socket, parent, *words = arguments
    sys.path.append(project)  # classes of the project's own
    del sys.argv[1:]  # LightningCLI would warn about them
    serve(read_site_file(Path(path)), words, socket, int(parent))


if __name__ == "__main__":
    main(sys.argv[1:])
