"""Text as Markdown with two kinds of markup, in which names of variants and folders are escaped."""

from __future__ import annotations

import re

from fedlit.core.messages import visible

#: Code between backticks, which holds no backticks itself.
CODE = re.compile(r"`([^`\n]+)`")


def prose(text: str) -> str:
    """Text on one line, with its two marks; anything else in a name, such as tags and links, is shown literally."""
    text = visible(re.sub(r"\s+", " ", text))
    parts, at = [], 0
    for code in CODE.finditer(text):
        parts += [_literal(text[at : code.start()]), _code(code[1])]
        at = code.end()
    return "".join([*parts, _literal(text[at:])])


def _literal(text: str) -> str:
    return re.sub(r"[\\`\[\]]", r"\\\g<0>", _without_tags(text))


def _code(text: str) -> str:
    """Code between backticks; where it holds a tag, as HTML, in which the tag can be escaped for any reader."""
    escaped = _without_tags(text)
    return f"`{text}`" if escaped == text else f"<code>{escaped}</code>"


def _without_tags(text: str) -> str:
    """Tags and entities of HTML escaped; any other < and & stays."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", re.sub(r"&(?=#?\w+;)", "&amp;", text))
