"""The error that stands for a mistake in what the user gave."""

from __future__ import annotations


class InputError(ValueError):
    """Something that the user gave cannot be used.

    The message is one line that names the value and the remedy; the command line shows it without a traceback.
    """
