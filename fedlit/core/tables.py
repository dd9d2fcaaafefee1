"""CSV tables that a spreadsheet does not evaluate as formulas and that are read back unchanged."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from fedlit.core.files import atomic_write

#: The start of a text that a spreadsheet takes for a formula, after any quotes that ``escape_cell`` added.
FORMULA = re.compile(r"'*[=+\-@\t\r]")


def escape_cell(value: Any) -> Any:
    """Put a ``'`` in front of a text that a spreadsheet would evaluate; numbers stay as they are.

    A spreadsheet takes a text that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, which may start a program
    (OWASP, "CSV Injection").
    """
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) and not _is_number(value) else value


def unescape_cell(text: str) -> str:
    """The text that ``escape_cell`` was given."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file, atomically."""
    with atomic_write(path, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in chain((header,), rows):
            cells = [escape_cell(value) for value in row]
            returns = any(isinstance(each, str) and "\r" in each for each in cells)  # csv.writer quotes only line feeds
            (quoting if returns else writer).writerow(cells)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
