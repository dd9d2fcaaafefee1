"""Gaussian noise on averages or on single updates, with or without a guarantee of privacy."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from fedlit.algorithms.accountant import accountant
from fedlit.algorithms.algorithm import Algorithm, Average, Facts, State, overrides
from fedlit.algorithms.clip import Clip
from fedlit.core.errors import InputError
from fedlit.core.records import Broadcast, ClientUpdate, Weights
from fedlit.core.seeding import generator
from fedlit.mu import Mu
from fedlit.sampling import UniformSampling


class Noise(Algorithm):
    """Gaussian noise on the trainable parameters, in units of the norm of a ``Clip`` before it in the chain.

    After the algorithm that averages, the noise on the average of a cohort of K clients has the standard deviation
    multiplier * clip / K: ``chain(Clip(0.5), Mean(), Noise(1.0))`` is DP-FedAvg, see ``PrivateMean``. Before that
    algorithm, each update gets noise of its own, with the standard deviation multiplier * clip. The noise is drawn at
    the address (seed, round), for single updates (seed, round, client).

    With ``delta``, ``privacy/epsilon`` is logged, and settings for which it would not hold are refused: an average
    other than the mean with equal weights, cohorts that are not drawn uniformly, buffers, noise before the average,
    and algorithms that use the clients' updates without noise.

    Args:
        multiplier: Standard deviation in units of the clip, at least 0.
        delta: The delta at which epsilon is reported, more than 0 and less than 1 / number of clients; None reports no
            epsilon.
    """

    def __init__(self, multiplier: float, delta: float | None = 1e-5) -> None:
        check_noise("multiplier", multiplier, delta)
        self._multiplier, self._delta = multiplier, delta
        self._epsilon: Callable[[int], float] | None = None

    def prepare(self, facts: Facts) -> None:
        super().prepare(facts)
        before = facts.before(self)
        clips = [part.norm for part in before if isinstance(part, Clip)]
        if not clips or math.isinf(clips[-1]):
            raise InputError(
                "Noise is in units of the norm that updates are clipped to; put fedlit.algorithms.Clip with a finite "
                "norm before Noise in the chain"
            )
        averages = [part for part in facts.chain if part.averages]
        self._on_updates = bool(averages) and averages[0] not in before
        self._deviation = self._multiplier * clips[-1] / (1 if self._on_updates else facts.clients_per_round)
        self._clip, self._epsilon = clips[-1], None
        if self._delta is not None and self._multiplier:
            check_private(facts)
            self._check_chain(facts.chain, before)
            if self._delta >= 1 / facts.num_clients:
                raise InputError(
                    f"delta must be less than 1/{facts.num_clients}, 1 / number of clients, got {self._delta}; lower it"
                )
            self._epsilon = accountant(self._multiplier, facts.num_clients, facts.clients_per_round, self._delta)

    def _check_chain(self, chain: tuple[Algorithm, ...], before: tuple[Algorithm, ...]) -> None:
        """Refuse a chain for which epsilon would not hold."""
        claims = "give Noise delta: null to add noise without an epsilon"
        if self._on_updates:
            raise InputError(
                f"epsilon is not known for noise on single updates; put Noise after the average, or {claims}"
            )
        for part in chain:
            if part.averages and not part.counts_missing:
                raise InputError(
                    "epsilon is known for a mean in which missing clients count as updates of zero, not for "
                    f"{part.name}; use Mean() in its place, or {claims}"
                )
            if overrides(part, "extra_weights"):
                raise InputError(
                    f"epsilon does not hold with {part.name}, which uses more from the clients than their clipped "
                    f"updates; leave one of them out, or {claims}"
                )
            if part in before and overrides(part, "conclude"):
                raise InputError(
                    f"epsilon does not hold with {part.name} before Noise, as it keeps averages without noise; put it "
                    f"after Noise, or {claims}"
                )
        if not any(part.averages for part in chain):
            raise InputError(f"put fedlit.algorithms.Mean between Clip and Noise, or {claims}")

    def resume(self, state: State) -> None:
        """Refuse changed settings: epsilon adds up only over rounds of the same settings."""
        if self._epsilon is not None:
            check_same_settings(state, self._settings())

    def transform(self, sent: Broadcast, update: ClientUpdate) -> ClientUpdate:
        if not self._on_updates:
            return update
        weights = self._noisy(update.weights, generator(self.facts.seed, "noise", sent.round, update.task.client))
        return update._replace(weights=weights)

    def conclude(self, state: State, sent: Broadcast, average: Average) -> tuple[State, Weights]:
        if self._on_updates:
            return state, average.weights
        return {**state, **self._settings()}, self._noisy(
            average.weights, generator(self.facts.seed, "privacy", sent.round)
        )

    def _settings(self) -> State:
        return {
            "clip": self._clip,
            "noise_multiplier": self._multiplier,
            "clients_per_round": self.facts.clients_per_round,
        }

    def _noisy(self, weights: Weights, draw: torch.Generator) -> Weights:
        if not self._deviation:
            return weights
        noise = torch.randn(self.facts.layout.num_trainable, generator=draw, dtype=torch.float64) * self._deviation
        floats = weights.floats.clone()
        floats[: len(noise)] += noise.to(floats)
        return weights._replace(floats=floats)

    def metrics(self, rounds: int) -> dict[str, float]:
        return {} if self._epsilon is None else {"privacy/epsilon": self._epsilon(rounds)}


def check_noise(name: str, multiplier: float, delta: float | None) -> None:
    """Refuse a multiplier or a delta that is out of range.

    Args:
        name: Name of the multiplier's argument.
        multiplier: The multiplier.
        delta: The delta; None for no epsilon.

    Raises:
        InputError: Naming the argument.
    """
    if not 0 <= multiplier < math.inf:
        raise InputError(f"{name} must be a finite number >= 0, got {multiplier}; 1 is usual")
    if delta is not None and not 0 < delta < 1:
        raise InputError(f"delta must be more than 0 and less than 1, got {delta}; 1e-5 is usual")


def check_private(facts: Facts) -> None:
    """Refuse a federation with settings for which no epsilon is known.

    Raises:
        InputError: Naming the setting.
    """
    if type(facts.sampling) is not UniformSampling:
        raise InputError(
            f"epsilon accounts for UniformSampling, not {type(facts.sampling).__name__}; leave federation.sampling out"
        )
    if facts.averaging != "uniform":
        raise InputError(
            "a private mean weights all clients equally, as a large client could otherwise move the average beyond the "
            "clip; set federation.averaging to uniform"
        )
    buffers = [name for name, _ in facts.net.named_buffers() if name in facts.net.state_dict()]
    if buffers:
        raise InputError(
            f"only parameters are clipped and get noise, so buffers such as {buffers[0]} are not private; use a "
            "network without BatchNorm, for example with norm: group"
        )
    if type(facts.mu).update is not Mu.update:
        raise InputError(
            f"{type(facts.mu).__name__} depends on the clients' losses, which have no noise; set model.mu to a number"
        )


def check_same_settings(then: State, now: State) -> None:
    """Refuse to resume with changed settings, over which epsilon would not add up.

    Raises:
        InputError: Naming the setting.
    """
    for setting, value in now.items():
        if then.get(setting, value) != value:
            raise InputError(
                f"epsilon adds up only over rounds of one {setting}, which was {then[setting]} and now is {value}; use "
                "the run's config.yaml, or start anew without --ckpt_path"
            )
