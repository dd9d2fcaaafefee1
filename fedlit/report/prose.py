"""Text with a report's two marks as Markdown; names in it hold whatever somebody called a variant or a folder."""

from __future__ import annotations

import re

from fedlit.core.messages import visible

#: A mark of ours: code, whose backticks hold no others.
CODE = re.compile(r"`([^`\n]+)`")


def prose(text: str) -> str:
    """Text on one line, with its two marks; whatever else a name holds, as tags and links, is shown and not obeyed."""
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
