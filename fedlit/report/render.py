"""A document as one self-contained page, and as Markdown."""

from __future__ import annotations

import base64
import html
import os
import re
from collections.abc import Mapping
from pathlib import Path

from fedlit.report.charts import Chart, alone, colours, darkened
from fedlit.report.document import Block, Bullets, Document, Pictures, Section, Table, Tables, Text, Verdict

# --- HTML -------------------------------------------------------------------------------------------------------------


def to_html(document: Document) -> str:
    """One file without references to others, readable wide and narrow, in light and dark."""
    style = Path(__file__).with_name("page.css").read_text()
    contents = "".join(f'<a href="#{_anchor(s.title)}">{_inline(s.title)}</a>' for s in document.sections)
    body = "\n".join(_section(section, document) for section in document.sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_inline(document.title)}</title>\n<style>\n{style}{_palette(document)}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{_inline(document.title)}</h1>\n<p>{_inline(document.summary)}</p>\n<nav>{contents}</nav>\n"
        f"</header>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _palette(document: Document) -> str:
    """A class for each variant's colour."""
    light, dark = colours(document.variants), colours(document.variants, dark=True)
    rules = "".join(f".v{i}{{background:{light[v]}}}" for i, v in enumerate(document.variants))
    night = "".join(f".v{i}{{background:{dark[v]}}}" for i, v in enumerate(document.variants))
    return f"{rules}\n@media (prefers-color-scheme: dark) {{{night}}}\n"


def _section(section: Section, document: Document) -> str:
    blocks = "\n".join(_block(block, document) for block in section.blocks)
    return f'<section id="{_anchor(section.title)}">\n<h2>{_inline(section.title)}</h2>\n{blocks}\n</section>'


def _block(block: Block, document: Document) -> str:
    match block:
        case Text(text):
            return f"<p>{_inline(text)}</p>"
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>"
        case Table():
            return _table(block, {variant: i for i, variant in enumerate(document.variants)})
        case Tables(tables):
            return f'<div class="tables">{"".join(_block(table, document) for table in tables)}</div>'
        case Verdict(number, text, verdict, reason):
            return (
                f'<div class="claim {verdict}"><h3>{number}. {_inline(text)}</h3>'
                f'<p><span class="badge">{verdict.capitalize()}.</span> {_inline(_sentence(reason))}.</p></div>'
            )
        case Pictures(files):
            figures = "".join(
                f'<figure class="paper"><img alt="{_inline(label)}" src="{_data(path)}">'
                f"<figcaption>{_inline(label)}</figcaption></figure>"
                for label, path in files
            )
            return f'<div class="grid">{figures}</div>'
        case Chart():
            return _chart(block, document)


def _table(table: Table, variants: Mapping[str, int]) -> str:
    def cell(tag: str, i: int, text: str, note: str = "") -> str:
        chip = f'<i class="chip v{variants[text]}"></i>' if text in variants else ""
        title = f' title="{html.escape(note)}"' if note else ""
        kind = " class=word" if i < table.words else ""
        kind = ' class="word name"' if chip else kind
        return f"<{tag}{kind}{title}>{chip}{_inline(text)}</{tag}>"

    rows = []
    for group, lines in table.groups.items():
        if group:
            rows.append(f'<tr class="group"><th colspan="{len(table.columns)}"><span>{_inline(group)}</span></th></tr>')
        rows += ["<tr>" + "".join(cell("td", i, text) for i, text in enumerate(line)) + "</tr>" for line in lines]
    head = "".join(cell("th", i, text, table.notes.get(text, "")) for i, text in enumerate(table.columns))
    whole = (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    whole = f"<div><h3>{_inline(table.title)}</h3>{whole}</div>" if table.title else whole
    return f"<details><summary>{_inline(table.folded)}</summary>{whole}</details>" if table.folded else whole


def _chart(chart: Chart, document: Document) -> str:
    """Each panel for a light and a dark page; the legend is text."""
    panels = "".join(
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{_svg(darkened(picture))}">'
        f'<img alt="{_inline(f"{chart.title}: {panel.title}")}" src="{_svg(picture)}"></picture>'
        for panel, picture in zip(chart.panels, alone(chart, document.variants), strict=True)
    )
    drawn = {line.variant for panel in chart.panels for line in getattr(panel, "lines", ())}
    legend = "".join(
        f'<span><i class="chip v{i}"></i>{_inline(v)}</span>' for i, v in enumerate(document.variants) if v in drawn
    )
    shape = " wide" if not drawn else " two" if len(chart.panels) in (2, 4) else ""
    return (
        f'<figure><h3>{_inline(chart.title)}</h3><div class="legend">{legend}</div>'
        f'<div class="grid{shape}">{panels}</div><figcaption>{_inline(chart.caption)}</figcaption></figure>'
    )


def _inline(text: str) -> str:
    text = html.escape(text)
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"`(.+?)`", r"<code>\1</code>", text)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _anchor(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def _svg(text: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()}"


def _data(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


# --- Markdown ---------------------------------------------------------------------------------------------------------


def to_markdown(document: Document, folder: Path) -> str:
    """The same as Markdown, to lie in ``folder`` beside the charts' files."""
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
        case Verdict(number, text, verdict, reason):
            return f"### {number}. {text}\n\n**{verdict.capitalize()}.** {_sentence(reason)}."
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
