"""Renders a document as Markdown."""

from __future__ import annotations

import html
import os
from pathlib import Path
from urllib.parse import quote

from fedlit.core.messages import visible
from fedlit.report.document import (
    Bullets,
    Document,
    Element,
    JudgedClaim,
    Lead,
    PictureRow,
    Table,
    Tables,
    Text,
    sentence,
)
from fedlit.report.panels import Chart
from fedlit.report.prose import prose


def to_markdown(document: Document, folder: Path) -> str:
    """A report as Markdown, for a file in ``folder`` beside the charts' files."""
    lines = [f"# {prose(document.title)}", prose(document.summary)]
    for section in document.sections:
        lines.append(f"## {prose(section.title)}")
        lines += [_written(block, folder) for block in section.blocks]
    return "\n\n".join(lines) + "\n"


def _written(block: Element, folder: Path) -> str:
    match block:
        case Text(text) | Lead(text):
            return prose(text)
        case Bullets(items):
            return "\n".join(f"- {prose(item)}" for item in items)
        case Table():
            return _written_table(block)
        case Tables(tables):
            return "\n\n".join(_written_table(table) for table in tables)
        case JudgedClaim(number, text, verdict, reason, outlook):
            lines = "".join(f"\n- {prose(line)}" for line in outlook)
            said = f"**{verdict.capitalize()}.** {prose(sentence(reason))}."
            return f"### {number}. {prose(text)}\n\n{said}\n{lines}".rstrip()
        case PictureRow(files):
            return "\n\n".join(f"![{prose(label)}]({_relative(path, folder)})" for label, path in files)
        case Chart():
            title = prose(block.title)
            return f"### {title}\n\n![{title}]({block.name}.png)\n\n{prose(block.caption)}"


def _written_table(table: Table) -> str:
    grouped = any(table.groups)
    columns = (table.grouped_by, *table.columns) if grouped else table.columns
    words = table.words + grouped
    rows = [((group, *line) if grouped else line) for group, lines in table.groups.items() for line in lines]
    marks = ["---" if i < words else "---:" for i in range(len(columns))]
    cells = [[prose(cell).replace("|", "\\|") for cell in row] for row in (columns, marks, *rows)]
    text = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    if table.folded:  # Markdown needs the blank line after the summary to recognise the table
        return f"<details><summary>{html.escape(visible(table.folded))}</summary>\n\n{text}\n\n</details>"
    return f"**{prose(table.title)}**\n\n{text}" if table.title else text


def _relative(path: Path, folder: Path) -> str:
    """The relative path of a picture, escaped for a Markdown link."""
    return quote(Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix(), safe="/+=,@", errors="replace")
