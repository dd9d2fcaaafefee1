"""Central, client-level differential privacy: updates are clipped, and the server's average gets noise."""

from __future__ import annotations

import math

from fedlit.algorithms.algorithm import Average, Facts, State
from fedlit.algorithms.chained import Chain
from fedlit.algorithms.clip import Clip
from fedlit.algorithms.mean import Mean
from fedlit.algorithms.noise import Noise, check_noise, check_private, check_same_settings
from fedlit.core.errors import InputError
from fedlit.core.records import Broadcast, Weights


class PrivateMean(Chain):
    """DP-FedAvg with a fixed denominator (McMahan et al. 2018, arXiv:1710.06963, Algorithm 1).

    With a cohort of K clients, the new model is w_t + (sum_k clip(w_k - w_t) + N(0, (noise_multiplier clip)^2 I)) / K;
    clip() scales an update of a greater norm down to ``clip``, and a client that was dropped or rejected counts as an
    update of zero. An infinite ``clip``, which requires zero noise, is the uniform mean of the clients that answered.

    ``privacy/epsilon`` covers all rounds so far: (epsilon, delta)-differential privacy of the sequence of global
    models, for federations that differ in the whole data of one client (replace-one). Replacing a client changes the
    sum by up to 2 ``clip``, so the accountant (Wang et al. 2019, arXiv:1808.00087, of the dp-accounting library) is
    given half of ``noise_multiplier``; it assumes that cohorts are drawn uniformly without replacement, by a secret
    seed.

    Not covered: anyone who sees single updates, such as the server; other metrics of the run and warnings of rejected
    clients, which have no noise; a run that ``federation.max_rejected`` stops; settings chosen by using the same data;
    a user's own schedule that depends on metrics; and attacks on the low bits of floating-point noise (Mironov 2012).

    Args:
        clip: The greatest norm of an update over all its trainable parameters, more than 0; .inf does not clip.
        noise_multiplier: Standard deviation of the noise on the sum, in units of ``clip``; at least 0.
        delta: The delta at which epsilon is reported, more than 0 and less than 1 / number of clients.
    """

    def __init__(self, clip: float, noise_multiplier: float, delta: float = 1e-5) -> None:
        if not clip > 0:
            raise InputError(f"clip must be > 0, got {clip}; .inf with noise_multiplier 0 does not clip")
        check_noise("noise_multiplier", noise_multiplier, delta)
        if noise_multiplier and math.isinf(clip):
            raise InputError(
                f"noise_multiplier {noise_multiplier} is in units of clip, which is infinite; set clip, for example to "
                "the usual norm of updates (drift/mean of a run without noise), or set noise_multiplier to 0"
            )
        mean = Mean("left out" if math.isinf(clip) else "zero")
        super().__init__(Clip(clip), mean, *([Noise(noise_multiplier, delta)] if noise_multiplier else []))
        self._settings = {"clip": clip, "noise_multiplier": noise_multiplier}

    @property
    def name(self) -> str:
        return type(self).__name__

    def prepare(self, facts: Facts) -> None:
        check_private(facts)
        self._settings["clients_per_round"] = facts.clients_per_round
        super().prepare(facts)

    def resume(self, state: State) -> None:
        check_same_settings(state, self._settings)

    def conclude(self, state: State, sent: Broadcast, average: Average) -> tuple[State, Weights]:
        state, weights = super().conclude(state, sent, average)
        return {**state, **self._settings}, weights
