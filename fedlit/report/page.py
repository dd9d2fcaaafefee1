"""A document as one self-contained page: no reference to another file, readable wide and narrow, in light and dark."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fedlit.report.charts import Chart, alone, colours, darkened
from fedlit.report.document import Document, sentence

PAGE = "page.html.j2"


def to_html(document: Document) -> str:
    """The page."""

    def panels(chart: Chart) -> Iterator[tuple[str, str, str]]:
        """The title of each panel and its pictures for a light and a dark page."""
        for panel, svg in zip(chart.panels, alone(chart, document.variants), strict=True):
            yield panel.title, _uri("svg+xml", svg.encode()), _uri("svg+xml", darkened(svg).encode())

    page = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {
        "anchor": lambda title: re.sub(r"\W+", "-", title.lower()).strip("-"),
        "drawn": lambda chart: {line.variant for panel in chart.panels for line in getattr(panel, "lines", ())},
        "embedded": lambda path: _uri("png", path.read_bytes()),
        "kind": lambda block: type(block).__name__,
        "marked": _marked,
        "panels": panels,
        "sentence": sentence,
    }
    page.globals |= {"variants": document.variants}
    palette = {name: colours(document.variants, dark=name == "dark").values() for name in ("light", "dark")}
    return page.get_template(PAGE).render(document=document, **palette)


def _marked(text: str) -> Markup:
    """A text escaped, its ``**bold**`` and `` `code` `` rendered."""
    text = html.escape(text)
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", text))


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
