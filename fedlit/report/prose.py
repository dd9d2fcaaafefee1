"""Escapes text for Markdown, except for its two kinds of markup."""

from __future__ import annotations

import re

from fedlit.core.messages import visible

#: Code between backticks.
CODE = re.compile(r"`([^`\n]+)`")


def prose(text: str) -> str:
    """Text on one line. Bold and code are kept; anything else, such as tags and links in a name, is shown literally."""
    text = visible(re.sub(r"\s+", " ", text))
    parts, at = [], 0
    for code in CODE.finditer(text):
        parts += [_literal(text[at : code.start()]), _code(code[1])]
        at = code.end()
    return "".join([*parts, _literal(text[at:])])


def _literal(text: str) -> str:
    return re.sub(r"[\\`\[\]]", r"\\\g<0>", _without_tags(text))


def _code(text: str) -> str:
    """Code between backticks; if it contains a tag, as HTML, where the tag can be escaped."""
    escaped = _without_tags(text)
    return f"`{text}`" if escaped == text else f"<code>{escaped}</code>"


def _without_tags(text: str) -> str:
    """Escape HTML tags and entities; any other < and & is kept."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", re.sub(r"&(?=#?\w+;)", "&amp;", text))
