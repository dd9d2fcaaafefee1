"""What fedlit prints: names and values as they are, whatever somebody else put into them."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from fedlit.core.messages import visible


class Terminal(Console):
    """Rich's console, to which text is text: brackets are no markup, and what would steer the terminal is escaped.

    Colours are given as ``rich.text.Text``.

    Args:
        options: For ``rich.console.Console``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, "soft_wrap": True, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """All text that is printed, and every cell of a table, comes by here."""
        return super().render_str(visible(text, self.encoding), **options)
