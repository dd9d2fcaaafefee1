"""The strength of the proximal term: constant, by parameter, or adapted during training."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from fedlit.core.counts import at_least
from fedlit.core.errors import InputError
from fedlit.core.given import object_of
from fedlit.core.limits import FLOAT32_MAX
from fedlit.core.patterns import compile_pattern
from fedlit.core.renewable import Rule


class Mu(Rule, ABC):
    """The strength mu of mu/2 ||w - w_t||^2, round by round. Subclass it and name the class path in YAML.

    A rule that changes with the rounds defines ``update``, which gets a round's metrics without ``global/*``, and
    returns all of its state from ``state_dict``. Before another fit of the same object begins, its initial state is
    restored.
    """

    @property
    @abstractmethod
    def value(self) -> float:
        """mu of this round, at least 0; 0 is FedAvg. Logged as ``federation/mu``."""

    def of(self, name: str) -> float:
        """mu of one parameter, by its name in the network."""
        return self.value

    def check(self, names: Sequence[str]) -> None:
        """Check, before training, that the rule fits a network with trainable parameters of these names.

        Raises:
            InputError: Naming the argument that does not fit.
        """


class ConstantMu(Mu):
    """One mu for all parameters and rounds.

    Args:
        mu: The strength, at least 0.
    """

    def __init__(self, mu: float = 0.01) -> None:
        self._mu = _strength("mu", mu)

    @property
    def value(self) -> float:
        return self._mu


class MuByName(Mu):
    r"""Another mu for some parameters, for example a stronger proximal term for the attention alone.

    Args:
        names: From a regular expression, searched for in a parameter's name, to its mu; the first match counts.
            ``{'\battention\b': 1.0}`` keeps the clients' gates close to the server's.
        mu: The strength for all other parameters.
    """

    def __init__(self, names: dict[str, float], mu: float = 0.01) -> None:
        self._mu = _strength("mu", mu)
        self._names = [(compile_pattern(name), _strength(f"mu of {name!r}", value)) for name, value in names.items()]

    @property
    def value(self) -> float:
        return self._mu

    def of(self, name: str) -> float:
        return next((mu for pattern, mu in self._names if pattern.search(name)), self._mu)

    def check(self, names: Sequence[str]) -> None:
        for pattern, _ in self._names:
            if not any(pattern.search(name) for name in names):
                raise InputError(
                    f"no trainable parameter has {pattern.pattern!r} in its name; their names are "
                    f"{', '.join(names[:4])}, ...; correct the pattern, or leave it out"
                )


class AdaptiveMu(Mu):
    """The paper's rule: mu is raised when the training loss rises, and lowered when it has fallen for a while.

    Li et al. 2020, Section 5.3.2 and Appendix C.3.3: mu is raised by 0.1 when the loss increases and lowered by 0.1
    when the loss has decreased for 5 rounds in a row. The paper does not say whether the count starts again after mu
    was lowered, nor what happens at 0: both are arguments here.

    Args:
        start: mu of the first round. The paper deliberately starts from the wrong value: 1 on IID data, 0 otherwise.
        step: Amount by which mu is raised or lowered, more than 0.
        patience: Number of consecutive rounds with a falling loss before mu is lowered, at least 1.
        restart: Whether the count starts again when mu was lowered; if not, each further falling round lowers it.
        least: Lower bound of mu, at least 0.
        most: Upper bound of mu.
        watch: The metric that is the loss: ``clients/train_loss``, the mean over the cohort's fits, or
            ``diagnostics/train_loss``, that of the global model on all clients' data, if diagnostics measure it.
    """

    def __init__(
        self,
        start: float = 0.0,
        step: float = 0.1,
        patience: int = 5,
        restart: bool = True,
        least: float = 0.0,
        most: float = float("inf"),
        watch: str = "clients/train_loss",
    ) -> None:
        if not 0 < step <= FLOAT32_MAX:
            raise InputError(f"step must be a finite number > 0, got {step}; the paper's is 0.1")
        self._patience = at_least(1, "patience", patience, "the paper's is 5")
        if not 0 <= least <= _strength("start", start) <= most:
            raise InputError(f"start must be between least {least} and most {most}, got {start}; widen the bounds")
        self._mu, self._loss, self._falls = start, float("inf"), 0
        self._step, self._restart = step, restart
        self._least, self._most, self._watch = least, min(most, FLOAT32_MAX), watch

    @property
    def value(self) -> float:
        return self._mu

    def update(self, metrics: Mapping[str, float]) -> None:
        """Compare the round's loss with the previous one; a round without a loss (dropped, not measured) is skipped."""
        if self._watch not in metrics:
            return
        loss, before = metrics[self._watch], self._loss
        if math.isfinite(loss):
            self._loss = loss
        self._falls = self._falls + 1 if loss < before < math.inf else 0
        if not loss <= before:  # risen, or NaN
            self._move(self._step)
        elif self._falls >= self._patience:
            self._move(-self._step)
            self._falls = 0 if self._restart else self._falls

    @property
    def watch(self) -> str:
        """The metric that is the loss."""
        return self._watch

    def _move(self, by: float) -> None:
        self._mu = round(min(max(self._mu + by, self._least), self._most), 12)  # ten steps of 0.1 are 1

    def state_dict(self) -> dict[str, Any]:
        return {"mu": self._mu, "loss": self._loss, "falls": self._falls}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._mu, self._loss, self._falls = state["mu"], state["loss"], state["falls"]
        self._move(0.0)  # the bounds may be others than in the checkpoint's run


def as_mu(mu: Any) -> Mu:
    """A rule for mu: the given one, or a constant for a number.

    Raises:
        InputError: If it is neither, or a number that is negative or not finite.
    """
    if isinstance(mu, int | float) or hasattr(mu, "__float__"):
        return ConstantMu(float(mu))
    rule: Mu = object_of("mu", mu, Mu, "a number >= 0; 0 is FedAvg")
    return rule


def _strength(name: str, mu: float) -> float:
    if not 0 <= mu <= FLOAT32_MAX:
        raise InputError(f"{name} must be a finite number >= 0, got {mu}; 0 is FedAvg")
    return mu
