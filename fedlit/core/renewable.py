"""Objects that change during a fit: each fit starts from their initial state, a resumed run from the checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from fedlit.core.errors import InputError
from fedlit.core.given import is_same


class Renewable:
    """Restores its attributes when a fit begins, so that a second fit of the same objects equals one of fresh objects.

    The attributes are copied when the first fit begins and put back at the start of each later one. After a fit they
    keep the values that they had at its end; one that is set from then on takes effect in the next fit.
    """

    _given: dict[str, Any] | None = None
    _left: dict[str, Any] | None = None

    def renew(self) -> None:
        """Restore the attributes that the object had when the first fit began, except those set since the last fit."""
        now = self._attributes()
        if self._given is not None:
            left = now if self._left is None else self._left
            now = self._given | {name: v for name, v in now.items() if name not in left or not is_same(v, left[name])}
            self._become(now)
        self._given, self._left = {name: _copied(value) for name, value in now.items()}, None

    def leave(self) -> None:
        """Note the attributes at the end of a fit."""
        self._left = self._attributes()

    def _attributes(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_given", "_left")}

    def _become(self, attributes: Mapping[str, Any]) -> None:
        vars(self).clear()
        vars(self).update(attributes)


class Rule(Renewable):
    """A number that may adapt to the metrics of the rounds."""

    def update(self, metrics: Mapping[str, float]) -> None:
        """Called after each round with its metrics, which are the same on every rank.

        ``global/*`` is not among them, as the global model is validated later.
        """

    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed run needs, in plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a checkpoint."""

    def update_and_check(self, metrics: Mapping[str, float], values_of: Callable[[Self], Sequence[float]]) -> None:
        """``update``, and check that a run resumed before or after it would have the same values.

        Args:
            metrics: The metrics of the round.
            values_of: From a rule to its values for the next round.

        Raises:
            InputError: If a resumed run would have another value.
        """
        resumed = self._resumed()
        self.update(metrics)
        resumed.update(metrics)
        for other in (resumed, self._resumed()):
            for mine, its in zip(values_of(self), values_of(other), strict=True):
                if mine != its:
                    raise InputError(
                        f"{type(self).__name__} gives {mine:.6g} for the next round, but {its:.6g} in a resumed run, "
                        "as its state_dict is incomplete; let state_dict return all that it depends on, and "
                        "load_state_dict restore it"
                    )

    def _resumed(self) -> Self:
        """The rule in a resumed run: a copy as of the beginning of the fit, with the present ``state_dict`` loaded."""
        resumed = copy.copy(self)
        resumed._become({name: _copied(value) for name, value in (self._given or self._attributes()).items()})
        resumed.load_state_dict(_copied(self.state_dict()))
        return resumed


def _copied(value: Any) -> Any:
    """A deep copy; the value itself if it cannot be copied, such as a lock or an open file."""
    try:
        return copy.deepcopy(value)
    except Exception:
        return value
