"""What a fit changes of the objects that it was given, and the next is not to see."""

from __future__ import annotations

import copy
from typing import Any


class Renewable:
    """Goes back to how it was given, so that a second fit of the same objects is what it would be with fresh ones.

    What an object holds when its first fit begins is remembered by the object itself, whatever its class, and put back
    at the start of each later one. In between it shows what the last fit left.
    """

    _given: dict[str, Any] | None = None

    def renew(self) -> None:
        """Become what it was when its first fit began."""
        if self._given is not None:
            given = self._given
            vars(self).clear()
            vars(self).update(given)
        self._given = {name: _copied(value) for name, value in vars(self).items()}


def _copied(value: Any) -> Any:
    """A deep copy; itself where it cannot be copied, as a lock or an open file."""
    try:
        return copy.deepcopy(value)
    except Exception:
        return value
