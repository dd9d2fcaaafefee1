"""Tables of names and numbers as CSV, without formulas for a spreadsheet, and read back as they were written."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from fedlit.core.files import atomic_write

#: What a spreadsheet takes for the beginning of a formula, after any quotes of ours.
FORMULA = re.compile(r"'*[=+\-@\t\r]")


def cell(value: Any) -> Any:
    """A value as it is written: text that a spreadsheet would evaluate gets a ``'`` in front, numbers stay as they are.

    A name that begins with ``=``, ``+``, ``-`` or ``@`` is a formula to a spreadsheet, and may start a program (OWASP,
    "CSV Injection").
    """
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) and not _is_number(value) else value


def name_of(cell: str) -> str:
    """The text that `cell` was given."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file, atomically."""
    with atomic_write(path, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in chain((header,), rows):
            cells = [cell(value) for value in row]
            returns = any(isinstance(each, str) and "\r" in each for each in cells)  # csv quotes line feeds alone
            (quoting if returns else writer).writerow(cells)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
