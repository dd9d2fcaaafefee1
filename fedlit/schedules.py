"""Learning rates over rounds, for ``model.client_schedule`` and ``model.server_schedule``.

A schedule gives the factor of the optimizer's own learning rate in each round. Within a round it is constant: all steps
of all clients of a round have the same learning rate.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from fedlit.core.counts import at_least
from fedlit.core.errors import InputError
from fedlit.core.renewable import Rule


class Schedule(Rule, ABC):
    """A factor of the learning rate, round by round. Subclass it and name the class path in YAML.

    A schedule that depends on the round alone defines only ``factor``, and is resumed exactly. A schedule that depends
    on metrics also defines ``update``, which gets a round's metrics without ``global/*``, and returns all of its state
    from ``state_dict``. Before another fit of the same object begins, its initial state is restored.
    """

    @abstractmethod
    def factor(self, round: int) -> float:
        """The factor of the learning rate in a round, a finite number > 0; rounds count from 0.

        It is called for the first and the last round before training begins, and then for each round in turn.
        """


class Constant(Schedule):
    """The optimizer's own learning rate in every round, as without a schedule."""

    def factor(self, round: int) -> float:
        return 1.0


class Exponential(Schedule):
    """gamma^t in round t, from 0: exponential decay (McMahan et al. 2017 use 0.99 on CIFAR).

    Args:
        gamma: Factor from one round to the next, more than 0 and at most 1; 1 is constant.
    """

    def __init__(self, gamma: float = 0.99) -> None:
        self._gamma = _share("gamma", gamma, "0.99 is usual")

    def factor(self, round: int) -> float:
        return self._gamma**round


class Step(Schedule):
    """gamma^floor(t/every) in round t, from 0: the rate drops once every ``every`` rounds.

    Args:
        every: Rounds between drops, at least 1.
        gamma: Factor of each drop, more than 0 and at most 1.
    """

    def __init__(self, every: int, gamma: float = 0.1) -> None:
        self._every = at_least(1, "every", every, "it is a number of rounds")
        self._gamma = _share("gamma", gamma, "0.1 is usual")

    def factor(self, round: int) -> float:
        return self._gamma ** (round // self._every)


class Cosine(Schedule):
    """Half a cosine from 1 in round 0 to ``least`` in round ``rounds``, and ``least`` from then on.

    least + (1 - least)(1 + cos(pi t/rounds))/2 in round t (Loshchilov and Hutter 2017, arXiv:1608.03983, Equation 5).

    Args:
        rounds: Number of rounds until it reaches ``least``, at least 1; usually ``trainer.max_epochs``.
        least: The factor at the end, from 0 to 1; with 0, ``rounds`` must not be less than the run's rounds.
    """

    def __init__(self, rounds: int, least: float = 0.0) -> None:
        self._rounds = at_least(1, "rounds", rounds, "it is a number of rounds")
        if not 0 <= least <= 1:
            raise InputError(
                f"least must be from 0 to 1, got {least}; it is the factor of the learning rate at the end"
            )
        self._least = least

    def factor(self, round: int) -> float:
        if round >= self._rounds:
            return self._least
        return self._least + (1 - self._least) * (1 + math.cos(math.pi * round / self._rounds)) / 2


def _share(name: str, value: float, usual: str) -> float:
    if not 0 < value <= 1:
        raise InputError(f"{name} must be more than 0 and at most 1, got {value}; {usual}")
    return value
