"""The error for a mistake in the user's input, and the one for a failure in another process."""

from __future__ import annotations


class InputError(ValueError):
    """A value given by the user cannot be used.

    The message is one line that names the value and the remedy; the command line shows it without a traceback.
    """


class ElsewhereError(RuntimeError):
    """A failure in another process or in a client's fit; the message ends with its traceback."""
