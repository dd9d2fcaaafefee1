"""Output on the terminal, in which names and values are printed literally."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedlit.core.messages import visible

__all__ = ["Column", "Group", "Terminal", "table_of"]

#: Width, in characters, of an output that is not a terminal: a file or a pipe.
UNLIMITED_WIDTH = 10_000


class Terminal(Console):
    """Rich's console without markup: brackets are printed as they are, control characters are escaped.

    Colours are given as ``rich.text.Text``. Where the output is a file or a pipe, nothing is cut to a width.

    Args:
        options: For ``rich.console.Console``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, "soft_wrap": True, **options})
        if not self.is_terminal and options.get("width") is None:
            self.width = UNLIMITED_WIDTH

    def render_str(self, text: str, **options: Any) -> Text:
        """Rich calls this for all text that is printed, and for every cell of a table."""
        return super().render_str(visible(text, self.encoding), **options)


class Column(NamedTuple):
    """A column of a table; it may be left out of a table that is too wide.

    Attributes:
        name: Its heading.
        cells: One cell for each row.
        dropped: The column with the greatest number is left out first; one with 0 never.
        right: Whether it is right-aligned, as numbers are.
    """

    name: str
    cells: Sequence[RenderableType]
    dropped: int = 0
    right: bool = True


def table_of(columns: Sequence[Column], console: Console) -> Table:
    """A table of the columns that are not empty and fit: whole columns are left out, no numbers are cut.

    If it is still too wide, the first column is wrapped.
    """
    shown = [column for column in columns if column.dropped == 0 or any(map(str, column.cells))]
    while True:
        table = Table(box=None, header_style="bold")
        for number, column in enumerate(shown):
            how: dict[str, Any] = {"overflow": "fold"} if number == 0 else {"no_wrap": True}
            table.add_column(column.name, justify="right" if column.right else "left", **how)
        for row in zip(*(column.cells for column in shown), strict=True):
            table.add_row(*row)
        width = console.measure(table, options=console.options.update(width=UNLIMITED_WIDTH)).maximum
        least = max(shown, key=lambda column: column.dropped)
        if width <= console.width or least.dropped == 0:
            return table
        shown.remove(least)
