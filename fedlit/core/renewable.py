"""Rules that a fit changes: they start each fit as they were given, and resume from what they put into a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from fedlit.core.errors import InputError


class Renewable:
    """Restores its attributes when a fit begins, so that a second fit of the same objects equals one of fresh objects.

    The attributes are copied when the first fit begins, whatever the class, and put back at the start of each later
    one. After a fit they are as that fit left them.
    """

    _given: dict[str, Any] | None = None

    def renew(self) -> None:
        """Restore the attributes of the beginning of the first fit."""
        if self._given is not None:
            self._become(self._given)
        self._given = {name: _copied(value) for name, value in vars(self).items()}

    def _become(self, attributes: Mapping[str, Any]) -> None:
        vars(self).clear()
        vars(self).update(attributes)


class Rule(Renewable):
    """A number that may follow the rounds' metrics."""

    def update(self, metrics: Mapping[str, float]) -> None:
        """Called after each round with its metrics, which are the same on every rank."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know, in plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a checkpoint."""

    def follow(self, metrics: Mapping[str, float], says: Callable[[Self], Sequence[float]]) -> None:
        """``update``, and a look at what runs would have that are resumed before it and after it.

        Args:
            metrics: Those of the round.
            says: What the rule gives for the next round.

        Raises:
            InputError: When a resumed run would have another number.
        """
        resumed = self._resumed()
        self.update(metrics)
        resumed.update(metrics)
        for other in (resumed, self._resumed()):
            for mine, its in zip(says(self), says(other), strict=True):
                if mine != its:
                    raise InputError(
                        f"{type(self).__name__} gives {mine:.6g} for the next round, and {its:.6g} in a resumed run: "
                        "what it depends on is not in its state_dict; let state_dict return it, and load_state_dict "
                        "take it back"
                    )

    def _resumed(self) -> Self:
        """As it was given to the fit, with its state of now."""
        resumed = copy.copy(self)
        resumed._become({name: _copied(value) for name, value in (self._given or vars(self)).items()})
        resumed.load_state_dict(_copied(self.state_dict()))
        return resumed


def _copied(value: Any) -> Any:
    """A deep copy; itself where it cannot be copied, as a lock or an open file."""
    try:
        return copy.deepcopy(value)
    except Exception:
        return value
