"""Objects whose state a fit changes, and which start each fit as they were given."""

from __future__ import annotations

import copy
from typing import Any


class Renewable:
    """Restores its attributes when a fit begins, so that a second fit of the same objects equals one of fresh objects.

    The attributes are copied when the first fit begins, whatever the class, and put back at the start of each later
    one. After a fit they are as that fit left them.
    """

    _given: dict[str, Any] | None = None

    def renew(self) -> None:
        """Restore the attributes of the beginning of the first fit."""
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
