"""Several algorithms as one, after optax's ``chain`` of gradient transformations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from fedlit.algorithms.algorithm import Algorithm, Average, Facts, State, overrides
from fedlit.core.average import WeightedMean
from fedlit.core.errors import InputError
from fedlit.core.records import Broadcast, ClientTask, ClientUpdate, Weights

#: What only one part of a chain may do, and how a message says so.
ONCE = {"begin": "adds to the clients' gradients", "message": "sends clients more than the model"}


class Chain(Algorithm):
    """Does what each of its parts does, in their order.

    What parts keep with clients stands in one vector, part after part; what they remember on the server in one mapping.
    Each update goes through ``transform`` of the parts in turn, and the average through ``conclude`` of each.

    Args:
        parts: At least one.
    """

    def __init__(self, *parts: Algorithm) -> None:
        if not parts:
            raise InputError("a chain needs at least one algorithm; leave federation.algorithm out for FedProx")
        self.parts = parts
        self.changes_fit = any(part.changes_fit for part in parts)
        averaging = [part for part in parts if part.averages]
        self.averages = bool(averaging)
        if len(averaging) > 1:
            raise InputError(f"{_names(averaging)} each say how updates are averaged; leave all but one out")
        for method, does in ONCE.items():
            doing = [leaf for leaf in self.leaves if overrides(leaf, method)]
            if len(doing) > 1:
                raise InputError(f"each of {_names(doing)} {does}, and together they are no algorithm; leave one out")

    @property
    def leaves(self) -> tuple[Algorithm, ...]:
        """The parts, and in place of a chain among them its own."""
        return tuple(leaf for part in self.parts for leaf in (part.leaves if isinstance(part, Chain) else (part,)))

    @property
    def name(self) -> str:
        return " + ".join(part.name for part in self.parts)

    def prepare(self, facts: Facts) -> None:
        facts = facts if facts.chain else dataclasses.replace(facts, chain=self.leaves)
        super().prepare(facts)
        for part in self.parts:
            part.prepare(facts)

    def resume(self, state: State) -> None:
        for part in self.parts:
            part.resume(state)

    @property
    def kept_size(self) -> int:
        return sum(part.kept_size for part in self.parts)

    @property
    def local(self) -> frozenset[str]:
        return frozenset().union(*(part.local for part in self.parts))

    def message(self, state: State, model: Weights) -> Tensor:
        return torch.cat([part.message(state, model) for part in self.parts])

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
        """What is each part's of what a client kept."""
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
        for part in self.parts:
            state, weights = part.conclude(state, sent, average)
            average = average._replace(weights=weights)
        return state, average.weights

    def metrics(self, rounds: int) -> dict[str, float]:
        return {name: value for part in self.parts for name, value in part.metrics(rounds).items()}


def chain(*parts: Algorithm) -> Algorithm:
    """Algorithms as one: ``chain(Clip(0.5), Mean(), Noise(1.0))``, ``chain(Scaffold(), BatchNormPolicy())``.

    In a config it is a list under ``federation.algorithm``.

    Raises:
        InputError: When they cannot be combined, with the reason.
    """
    return parts[0] if len(parts) == 1 else Chain(*parts)


def _names(algorithms: list[Algorithm]) -> str:
    return " and ".join(algorithm.name for algorithm in algorithms)
