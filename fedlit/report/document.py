"""A report as data: sections of text, tables, charts and pictures, to be rendered as Markdown or as a page.

Text has two marks: ``**bold**`` and `` `code` ``.
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
    """The sentence that is read first."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows under columns, in groups.

    Args:
        columns: Heads; the first columns, ``words`` of them, hold words and the others numbers.
        groups: Rows by the name of their group; the only group of a table may have no name.
        words: How many columns hold words.
        title: Above it.
        folded: Whether a page shows it only on demand, and under which title.
        notes: By column head, what it means.
        grouped_by: What the groups are.
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
    """Tables side by side where there is room."""

    tables: tuple[Table, ...]


@dataclass(frozen=True)
class PictureRow:
    """Files of pictures with a label each."""

    files: tuple[tuple[str, Path], ...]


@dataclass(frozen=True)
class JudgedClaim:
    """A claim's heading, its verdict and why, and what would decide what is open."""

    number: int
    text: str
    verdict: str
    reason: str
    outlook: tuple[str, ...] = ()


Element = Lead | Text | Bullets | Table | Tables | PictureRow | JudgedClaim | Chart


@dataclass(frozen=True)
class Section:
    """A heading and what is below it."""

    title: str
    blocks: tuple[Element, ...]


@dataclass(frozen=True)
class Document:
    """A whole report.

    Args:
        title: Its title.
        summary: A line below it.
        variants: What has a colour, in this order.
        sections: Those that there is something in.
    """

    title: str
    summary: str
    variants: tuple[str, ...]
    sections: tuple[Section, ...]


def sentence(text: str) -> str:
    """A text that begins with a capital letter."""
    return text[:1].upper() + text[1:]
