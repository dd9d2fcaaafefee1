"""The error that stands for a mistake in what the user gave, and one that carries a traceback from elsewhere."""

from __future__ import annotations


class InputError(ValueError):
    """Something that the user gave cannot be used.

    The message is one line that names the value and the remedy; the command line shows it without a traceback.
    """


class ElsewhereError(RuntimeError):
    """Something failed in another process, or in clients' fits: the message ends with the traceback from there."""
