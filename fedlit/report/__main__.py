"""``python -m fedlit.report`` runs ``fedlit report``."""

import sys

from fedlit.report.command import main

if __name__ == "__main__":
    sys.exit(main())
