"""``fedlit`` for a parent that holds its standard input open: it ends when the parent does, even by SIGKILL.

Otherwise a run whose study was killed would go on and write into the same folder as the one that is started next.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from fedlit.cli import main

STDIN = 0


def end_with_parent() -> None:
    """Kill this process once nobody holds the other end of its standard input."""

    def watch() -> None:
        while os.read(STDIN, 1):
            pass
        os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main())
