"""A report as data: sections of text, tables, charts and pictures, which are rendered as Markdown or HTML.

Text may contain ``**bold**`` and `` `code` ``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedlit.report.panels import Chart


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Lead:
    """The first sentence of the report."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows under columns, in groups.

    Args:
        columns: Column heads.
        groups: Rows by the name of their group; a single group may have an empty name.
        words: The number of first columns that hold words; the others hold numbers.
        title: Title above the table.
        folded: Title under which a page shows the table folded; empty shows it open.
        notes: Explanations by column head.
        grouped_by: Head of the column of group names.
        wide: Whether words may take the whole width.
    """

    columns: tuple[str, ...]
    groups: Mapping[str, Sequence[tuple[str, ...]]]
    words: int = 1
    title: str = ""
    folded: str = ""
    notes: dict[str, str] = field(default_factory=dict)
    grouped_by: str = "partition"
    wide: bool = False


@dataclass(frozen=True)
class Tables:
    """Tables side by side, if there is room."""

    tables: tuple[Table, ...]


@dataclass(frozen=True)
class PictureRow:
    """Picture files with labels."""

    files: tuple[tuple[str, Path], ...]


@dataclass(frozen=True)
class JudgedClaim:
    """A claim with its verdict, the reason, and what would decide its open parts."""

    number: int
    text: str
    verdict: str
    reason: str
    outlook: tuple[str, ...] = ()


Element = Lead | Text | Bullets | Table | Tables | PictureRow | JudgedClaim | Chart


@dataclass(frozen=True)
class Section:
    """A heading and its content."""

    title: str
    blocks: tuple[Element, ...]


@dataclass(frozen=True)
class Document:
    """A whole report.

    Args:
        title: Its title.
        summary: A line below the title.
        variants: The variants, in the order of their colours.
        sections: The sections that are not empty.
    """

    title: str
    summary: str
    variants: tuple[str, ...]
    sections: tuple[Section, ...]


def sentence(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]
