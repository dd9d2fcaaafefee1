"""``python -m fedlit.report`` is ``fedlit report``."""

import sys

from fedlit.command.dispatch import dispatch

if __name__ == "__main__":
    sys.exit(dispatch(["report", *sys.argv[1:]], {}, {"report": "fedlit.report.command"}))
