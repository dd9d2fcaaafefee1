"""A document as Markdown."""

from __future__ import annotations

import os
from pathlib import Path

from fedlit.report.charts import Chart
from fedlit.report.document import Block, Bullets, Document, JudgedClaim, Pictures, Table, Tables, Text, sentence


def to_markdown(document: Document, folder: Path) -> str:
    """A report as Markdown, to lie in ``folder`` beside the charts' files."""
    lines = [f"# {document.title}", document.summary]
    for section in document.sections:
        lines.append(f"## {section.title}")
        lines += [_written(block, folder) for block in section.blocks]
    return "\n\n".join(lines) + "\n"


def _written(block: Block, folder: Path) -> str:
    match block:
        case Text(text):
            return text
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Table():
            return _written_table(block)
        case Tables(tables):
            return "\n\n".join(_written_table(table) for table in tables)
        case JudgedClaim(number, text, verdict, reason):
            return f"### {number}. {text}\n\n**{verdict.capitalize()}.** {sentence(reason)}."
        case Pictures(files):
            return "\n\n".join(f"![{label}]({_relative(path, folder)})" for label, path in files)
        case Chart():
            return f"### {block.title}\n\n![{block.title}]({block.name}.png)\n\n{block.caption}"


def _written_table(table: Table) -> str:
    grouped = any(table.groups)
    columns = ("partition", *table.columns) if grouped else table.columns
    words = table.words + grouped
    rows = [((group, *line) if grouped else line) for group, lines in table.groups.items() for line in lines]
    marks = ["---" if i < words else "---:" for i in range(len(columns))]
    text = "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in (columns, marks, *rows))
    above = f"**{table.title}**" if table.title else f"{table.folded}:" if table.folded else ""
    return f"{above}\n\n{text}" if above else text


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
