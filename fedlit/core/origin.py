"""Whether a class is fedlit's or a user's."""

from __future__ import annotations


def is_fedlit_class(piece: object) -> bool:
    """Whether an object's class is fedlit's own; only a user's class is tried out before it is used."""
    return type(piece).__module__.startswith("fedlit.")
