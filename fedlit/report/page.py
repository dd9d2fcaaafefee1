"""Renders a document as one self-contained HTML page, for wide and narrow screens, in light and dark mode.

The page is complete without its script and in print. With the script a reader can choose variants and seeds, read
values off the curves, and look at single clients.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Iterator, Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from fedlit.report.document import Document, sentence
from fedlit.report.panels import Chart, Clients, Curves, Floats
from fedlit.report.pictures import colours
from fedlit.report.svg import draw

PAGE = "page.html.j2"
#: Number of colours of an embedded picture.
COLOURS = 128


def to_html(document: Document) -> str:
    """The page as HTML."""
    variants, panels = document.variants, []

    def drawn(chart: Chart) -> Iterator[Markup]:
        """The panels of a chart; their numbers are kept for the script."""
        for panel in chart.panels:
            panels.append(panel)
            yield draw(panel, variants, len(panels) - 1)

    page = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {
        "anchor": lambda title: re.sub(r"\W+", "-", title.lower()).strip("-"),
        "legend": lambda chart: {line.variant for panel in chart.panels for line in getattr(panel, "lines", ())},
        "embedded": _embedded,
        "kind": lambda block: type(block).__name__,
        "marked": _marked,
        "number": _number,
        "drawn": drawn,
        "sentence": sentence,
    }
    page.globals |= {"variants": variants, "numbers": lambda: _script(variants, panels)}
    palette = {name: colours(variants, dark=name == "dark").values() for name in ("light", "dark")}
    return page.get_template(PAGE).render(document=document, **palette)


def _script(variants: Sequence[str], panels: Sequence[Any]) -> Markup:
    """The numbers of all panels as JSON, escaped so that it cannot close the HTML element that holds it."""
    told = json.dumps(
        {"variants": variants, "panels": [numbers(panel, variants) for panel in panels]}, separators=(",", ":")
    )
    return Markup(re.sub(r"[<>&]", lambda found: f"\\u{ord(found[0]):04x}", told))


@singledispatch
def numbers(panel: object, variants: Sequence[str]) -> dict[str, Any]:
    """The numbers of a panel that the script needs; empty if the script does not change it."""
    return {}


@numbers.register
def _curves(panel: Curves, variants: Sequence[str]) -> dict[str, Any]:
    lines = [
        {
            "variant": variants.index(line.variant),
            "x": _short(line.x),
            "seeds": {seed: _short(values) for seed, values in line.seeds.items()},
        }
        for line in panel.lines
    ]
    return {"label": panel.x_label, "lines": lines}


@numbers.register
def _clients(panel: Clients, variants: Sequence[str]) -> dict[str, Any]:
    return {
        "clients": panel.columns,
        "samples": panel.samples,
        "rows": panel.rows,
        "accuracy": [_short(row) for row in panel.values],
        "classes": panel.classes,
        "mix": [row.tolist() for row in panel.mix],
    }


def _short(values: Floats) -> list[float | None]:
    """Values with four significant digits; None for unknown ones."""
    return [None if value != value else float(f"{value:.4g}") for value in values.tolist()]


def _number(cell: str) -> Markup:
    """A cell with a number; text in brackets at its end is small."""
    return Markup(re.sub(r" (\([^()]*\))(?=(</strong>)?$)", r" <small>\1</small>", str(_marked(cell))))


def _marked(text: str) -> Markup:
    """A text escaped, its ``**bold**`` and `` `code` `` rendered."""
    text = html.escape(text)
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", text))


def _embedded(path: Path) -> str:
    """A picture as a data URL, with few colours, so that it takes a third of the file's size."""
    content = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLOURS).save(content, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
