"""Combines algorithms into one, after optax's ``chain`` of gradient transformations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from fedlit.algorithms.algorithm import Algorithm, Average, Facts, State, overrides
from fedlit.core.average import WeightedMean
from fedlit.core.errors import InputError
from fedlit.core.records import Broadcast, ClientTask, ClientUpdate, Weights

#: Methods that only one part of a chain may override, with a description for messages.
EXCLUSIVE = {"begin": "adds to the clients' gradients", "message": "sends clients more than the model"}


class Chain(Algorithm):
    """Applies several algorithms in their order.

    The vectors that the parts keep with clients are concatenated. On the server each part has a state of its own, under
    its position ``0``, ``1``, and so on. Each update passes through ``transform`` of all parts, and the average through
    ``conclude`` of all parts.

    Args:
        parts: At least one algorithm.
    """

    def __init__(self, *parts: Algorithm) -> None:
        if not parts:
            raise InputError("a chain needs at least one algorithm; leave federation.algorithm out for FedProx")
        self.parts = parts
        averaging = [part for part in parts if part.averages]
        if len(averaging) > 1:
            raise InputError(f"{_names(averaging)} each define how updates are averaged; keep only one of them")
        for method, does in EXCLUSIVE.items():
            doing = [leaf for leaf in leaves(self) if overrides(leaf, method)]
            if len(doing) > 1:
                raise InputError(f"each of {_names(doing)} {does}, which cannot be combined; keep only one of them")

    @property
    def changes_fit(self) -> bool:
        return any(part.changes_fit for part in self.parts)

    @property
    def averages(self) -> bool:
        return any(part.averages for part in self.parts)

    @property
    def name(self) -> str:
        return " + ".join(part.name for part in self.parts)

    def prepare(self, facts: Facts) -> None:
        facts = facts if facts.chain else dataclasses.replace(facts, chain=leaves(self))
        super().prepare(facts)
        for part in self.parts:
            part.prepare(facts)

    def resume(self, state: State) -> None:
        for part, own in zip(self.parts, self._states(state), strict=True):
            part.resume(own)

    def _states(self, state: State) -> list[State]:
        """The server's state of each part."""
        places = [str(place) for place in range(len(self.parts))]
        if state.keys() - places:  # of an earlier fedlit, in which all parts shared one state
            return [state] * len(places)
        return [state.get(place, {}) for place in places]

    @property
    def kept_size(self) -> int:
        return sum(part.kept_size for part in self.parts)

    @property
    def fewest_clients(self) -> int:
        return max(part.fewest_clients for part in self.parts)

    @property
    def local(self) -> frozenset[str]:
        return frozenset().union(*(part.local for part in self.parts))

    def message(self, state: State, model: Weights) -> Tensor:
        states = self._states(state)
        return torch.cat([part.message(own, model) for part, own in zip(self.parts, states, strict=True)])

    def start(self, floats: Tensor, kept: Tensor | None) -> Tensor:
        for part, own in zip(self.parts, self._split(kept), strict=True):
            floats = part.start(floats, own)
        return floats

    def begin(self, sent: Broadcast, kept: Tensor | None) -> Tensor | None:
        corrections = [part.begin(sent, own) for part, own in zip(self.parts, self._split(kept), strict=True)]
        return next((each for each in corrections if each is not None), None)

    def end(self, sent: Broadcast, ended: Weights, steps: int, kept: Tensor | None) -> Tensor | None:
        pairs = zip(self.parts, self._split(kept), strict=True)
        vectors = [part.end(sent, ended, steps, own) for part, own in pairs]
        found = [vector for vector in vectors if vector is not None]
        return torch.cat(found) if found else None

    def _split(self, kept: Tensor | None) -> list[Tensor | None]:
        """Each part's share of the vector that a client kept."""
        sizes = [part.kept_size for part in self.parts]
        if kept is None:
            return [None] * len(sizes)
        return [own if size else None for own, size in zip(kept.split(sizes), sizes, strict=True)]

    def transform(self, sent: Broadcast, update: ClientUpdate) -> ClientUpdate:
        for part in self.parts:
            update = part.transform(sent, update)
        return update

    def reducer(self, sent: Broadcast) -> WeightedMean | None:
        return next((part.reducer(sent) for part in self.parts if part.averages), None)

    def extra_weights(self, sent: Broadcast, task: ClientTask) -> Mapping[str, float]:
        return {name: weight for part in self.parts for name, weight in part.extra_weights(sent, task).items()}

    def conclude(self, state: State, sent: Broadcast, average: Average) -> tuple[State, Weights]:
        states: dict[str, State] = {}
        for place, (part, own) in enumerate(zip(self.parts, self._states(state), strict=True)):
            states[str(place)], weights = part.conclude(own, sent, average)
            average = average._replace(weights=weights)
        return {place: own for place, own in states.items() if own}, average.weights

    def metrics(self, rounds: int) -> dict[str, float]:
        return {name: value for part in self.parts for name, value in part.metrics(rounds).items()}


def chain(*parts: Algorithm) -> Algorithm:
    """Combine algorithms: ``chain(Clip(0.5), Mean(), Noise(1.0))``, ``chain(Scaffold(), BatchNormPolicy())``.

    In a config, give a list as ``federation.algorithm``.

    Raises:
        InputError: If they cannot be combined, with the reason.
    """
    return parts[0] if len(parts) == 1 else Chain(*parts)


def leaves(algorithm: Algorithm) -> tuple[Algorithm, ...]:
    """The algorithm itself; for a chain, its parts, with nested chains flattened."""
    if not isinstance(algorithm, Chain):
        return (algorithm,)
    return tuple(leaf for part in algorithm.parts for leaf in leaves(part))


def _names(algorithms: list[Algorithm]) -> str:
    return " and ".join(algorithm.name for algorithm in algorithms)
