"""Central differential privacy of clients: updates are clipped, and the server's average gets noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from fedlit.algorithms.robust import clipped
from fedlit.errors import InputError
from fedlit.federated.aggregate import WeightedMean
from fedlit.federated.algorithm import Algorithm
from fedlit.federated.client import ClientModule
from fedlit.federated.loop import FederatedLoop
from fedlit.federated.mu import Mu
from fedlit.federated.records import Broadcast, ClientUpdate, Weights
from fedlit.federated.sampling import UniformSampling
from fedlit.federated.state import Layout
from fedlit.seeding import generator


class PrivateMean(Algorithm):
    """DP-FedAvg with a fixed denominator (McMahan et al. 2018, arXiv:1710.06963, Algorithm 1).

    With a cohort of K clients, w_t + (sum_k clip(w_k - w_t) + N(0, (noise_multiplier clip)^2 I)) / K; clip() scales an
    update of a greater norm down to ``clip``, and a client that was dropped or rejected counts as an update of zero.
    An infinite ``clip``, which only goes with no noise, is the plain uniform mean of those that answered.

    ``privacy/epsilon`` is that of all rounds so far: (epsilon, delta)-differential privacy of the sequence of global
    models, for federations that differ in the whole data of one client (replace-one). One client then moves the sum by
    up to 2 ``clip``, so the accountant (Wang et al. 2019, arXiv:1808.00087, of the dp-accounting library) is given half
    of ``noise_multiplier``; it takes cohorts as drawn uniformly without replacement, by a seed that nobody knows.

    Not covered: whoever sees single updates, as the server does; other metrics of the run and warnings of rejected
    clients, which have no noise; a run that ``federation.max_rejected`` stops; settings chosen by looking at the same
    data; a schedule of one's own that follows metrics; and attacks on the low bits of floating-point noise (Mironov
    2012).

    Args:
        clip: The greatest norm of an update over all its trainable parameters, more than 0; .inf does not clip.
        noise_multiplier: Standard deviation of the noise on the sum, in units of ``clip``; at least 0.
        delta: Where epsilon is reported, more than 0 and less than one over the number of clients.
    """

    def __init__(self, clip: float, noise_multiplier: float, delta: float = 1e-5) -> None:
        if not clip > 0:
            raise InputError(f"clip must be > 0, got {clip}; .inf with noise_multiplier 0 does not clip")
        if not 0 <= noise_multiplier < math.inf:
            raise InputError(f"noise_multiplier must be a finite number >= 0, got {noise_multiplier}; 1 is usual")
        if noise_multiplier and math.isinf(clip):
            raise InputError(
                f"noise_multiplier {noise_multiplier} is in units of clip, which is infinite; set clip, to the median "
                "norm of updates for example (drift/mean of a run without noise), or noise_multiplier to 0"
            )
        if not 0 < delta < 1:
            raise InputError(f"delta must be more than 0 and less than 1, got {delta}; 1e-5 is usual")
        self._clip, self._noise_multiplier, self._delta = clip, noise_multiplier, delta
        self._resumed: Mapping[str, Any] = {}

    def check(self, loop: FederatedLoop) -> None:
        if type(loop.sampling) is not UniformSampling:
            raise InputError(
                f"PrivateMean accounts for UniformSampling, not {type(loop.sampling).__name__}; leave "
                "federation.sampling out"
            )
        if loop.averaging != "uniform":
            raise InputError(
                "PrivateMean weights clients alike, as sizes would let a large one move the average beyond clip; set "
                "federation.averaging to uniform"
            )
        self._seed, self._cohort = loop.seed, loop.clients_per_round
        now = self.state_dict()
        for setting, then in self._resumed.items():
            if now[setting] != then:
                raise InputError(
                    f"epsilon adds up over rounds of one {setting}, which was {then} and is {now[setting]}; use the "
                    "run's config.yaml, or start anew without --ckpt_path"
                )
        if self._noise_multiplier:
            clients = loop.data.num_clients
            if self._delta >= 1 / clients:
                raise InputError(
                    f"delta must be less than 1/{clients}, one over the clients, got {self._delta}; lower it"
                )
            self._epsilon = accountant(self._noise_multiplier, clients, self._cohort, self._delta)

    def prepare(self, client: ClientModule, mu: Mu, num_clients: int) -> None:
        buffers = [name for name, _ in client.net.named_buffers() if name in client.net.state_dict()]
        if buffers:
            raise InputError(
                f"PrivateMean clips and hides parameters, not buffers such as {buffers[0]}; use a network without "
                "BatchNorm, with norm: group for example"
            )
        if type(mu).update is not Mu.update:
            raise InputError(
                f"{type(mu).__name__} follows the clients' losses, which have no noise; set model.mu to a number"
            )

    def aggregation(self, sent: Broadcast, layout: Layout) -> WeightedMean:
        return _ClippedMean(sent.weights, self._clip, self._cohort)

    def conclude(self, sent: Broadcast, layout: Layout, updates: WeightedMean) -> Weights:
        mean = updates.mean()
        if not self._noise_multiplier:
            return mean
        assert self._seed is not None
        draw = generator(self._seed, "privacy", sent.round)
        noise = torch.randn(layout.num_trainable, generator=draw, dtype=torch.float64)
        noise *= self._noise_multiplier * self._clip / self._cohort
        floats = mean.floats.clone()
        floats[: len(noise)] += noise.to(floats)
        return mean._replace(floats=floats)

    def metrics(self, rounds: int) -> dict[str, float]:
        return {"privacy/epsilon": self._epsilon(rounds)} if self._noise_multiplier else {}

    def state_dict(self) -> dict[str, Any]:
        return {
            "clip": self._clip,
            "noise_multiplier": self._noise_multiplier,
            "clients_per_round": self._cohort,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._resumed = state


class _ClippedMean(WeightedMean):
    """The mean of a cohort's clipped updates, in which those that are missing are zero.

    Args:
        start: w_t.
        clip: The greatest norm.
        cohort: Clients of all ranks together.
    """

    def __init__(self, start: Weights, clip: float, cohort: int) -> None:
        super().__init__(start)
        self._clip, self._cohort = clip, cohort

    def add(self, update: ClientUpdate) -> None:
        floats = clipped(update.weights.floats, self._like.floats, self._clip)
        self.add_state(update.weights._replace(floats=floats), 1.0)

    def reduce(self) -> None:
        super().reduce()
        missing = self._cohort - self.count
        if missing and math.isfinite(self._clip):
            self.add_state(self._like, missing)


def accountant(noise_multiplier: float, clients: int, cohort: int, delta: float) -> Callable[[int], float]:
    """From a number of rounds to their epsilon under replacement of one client.

    Args:
        noise_multiplier: Noise on the sum of a cohort's updates, in units of the greatest norm of one, more than 0.
        clients: All clients.
        cohort: Those of a round, drawn uniformly without replacement.
        delta: The delta at which epsilon is given.

    Raises:
        InputError: Where dp-accounting is not installed.
    """
    try:
        import dp_accounting as dp
    except ImportError as error:
        raise InputError(
            "PrivateMean needs the dp-accounting package for epsilon; pip install dp-accounting"
        ) from error
    gaussian = dp.GaussianDpEvent(noise_multiplier / 2)  # replacing a client moves the sum by up to twice its norm
    one_round = dp.rdp.RdpAccountant(neighboring_relation=dp.NeighboringRelation.REPLACE_ONE)
    one_round.compose(dp.SampledWithoutReplacementDpEvent(clients, cohort, gaussian))

    def epsilon(rounds: int) -> float:
        return float(dp.rdp.compute_epsilon(one_round.orders, rounds * one_round.rdp, delta)[0])

    return epsilon
