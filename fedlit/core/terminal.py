"""Output on the terminal, in which names and values are printed literally."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from fedlit.core.messages import visible


class Terminal(Console):
    """Rich's console without markup: brackets are printed as they are, control characters are escaped.

    Colours are given as ``rich.text.Text``.

    Args:
        options: For ``rich.console.Console``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, "soft_wrap": True, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Rich calls this for all text that is printed, and for every cell of a table."""
        return super().render_str(visible(text, self.encoding), **options)
