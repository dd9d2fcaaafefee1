"""``fedlit`` as a child process, which ends when its parent ends, even by SIGKILL.

Otherwise a run whose study was killed would continue and write into the folder of the next run. The parent has to hold
the child's standard input open.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from fedlit.cli import main

STDIN = 0


def end_with_parent() -> None:
    """Kill this process as soon as its standard input is closed."""

    def watch() -> None:
        while os.read(STDIN, 1):
            pass
        os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main())
