"""Whose a class is."""

from __future__ import annotations


def is_fedlit_class(piece: object) -> bool:
    """Whether an object is of one of fedlit's own classes, which need no trial, and not of a user's."""
    return type(piece).__module__.startswith("fedlit.")
