"""FedNova: updates are normalised by their number of steps before they are averaged."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch

from fedlit.algorithms.algorithm import Algorithm, Average, Facts, State, overrides
from fedlit.core.errors import InputError
from fedlit.core.exact import exact_sum
from fedlit.core.records import Broadcast, ClientTask, Weights
from fedlit.mu import Mu


class FedNova(Algorithm):
    """FedNova (Wang et al. 2020, arXiv:2007.07481, Section 4): no bias towards clients that take more steps.

    Client k's local changes are eta sum_j a_kj g_kj, with ||a_k||_1 = ``normaliser`` of its steps. The server averages
    the normalised changes and takes tau_eff = sum_k p_k ||a_k||_1 of them:

        w_{t+1} = w_t + tau_eff sum_k p_k (w_k - w_t) / ||a_k||_1.

    Clients have to train with SGD, with or without momentum, and all parameters have to share one mu. Buffers are
    averaged plainly, and so are parameters that stay with the clients (``KeepLocal`` in a chain).
    """

    @property
    def averages(self) -> bool:
        return True

    def prepare(self, facts: Facts) -> None:
        super().prepare(facts)
        facts.single_mu("FedNova")
        if changed := [part.name for part in facts.chain if overrides(part, "transform")]:
            raise InputError(
                f"FedNova averages updates as clients sent them, so {changed[0]} would have no effect; leave one of "
                "them out"
            )
        if facts.clip_norm is not None and (facts.mu.value > 0 or type(facts.mu).update is not Mu.update):
            raise InputError(
                f"FedNova is defined for steps that are linear in the proximal gradient, but model.client_clip_norm is "
                f"{facts.clip_norm}; leave one of them out, or set model.mu to 0"
            )
        settings = facts.plain_sgd("FedNova")
        self._sgd = float(settings["lr"]), float(settings["momentum"]), float(settings["dampening"])
        self._nesterov = bool(settings["nesterov"])

    def extra_weights(self, sent: Broadcast, task: ClientTask) -> Mapping[str, float]:
        return {"normalised": task.weight / self._length(sent, task)}

    def conclude(self, state: State, sent: Broadcast, average: Average) -> tuple[State, Weights]:
        normalised, total = average.extra["normalised"]
        # tau_eff
        steps = exact_sum([task.weight * self._length(sent, task) for task in average.tasks]) / average.total
        start, size = sent.weights.floats, self.facts.layout.num_trainable
        moved = start + (normalised.floats - start) * (steps * total / average.total)
        shared = self.facts.replaced_local(moved[:size], average.weights.floats)
        floats = torch.cat([shared, average.weights.floats[size:]])
        return state, average.weights._replace(floats=floats)

    def _length(self, sent: Broadcast, task: ClientTask) -> float:
        rate, momentum, dampening = self._sgd
        # max: parameters that stay with the clients have a mu of 0, and all others the same one.
        return normaliser(task.steps, rate * sent.rate, momentum, dampening, self._nesterov, max(sent.mu))


@cache
def normaliser(
    steps: int, rate: float, momentum: float = 0.0, dampening: float = 0.0, nesterov: bool = False, mu: float = 0.0
) -> float:
    """||a||_1 of ``steps`` steps of SGD on a proximal objective: the distance for a constant gradient of 1, over eta.

    Without momentum it is (1 - (1 - eta mu)^tau)/(eta mu), and tau for mu = 0; with momentum rho and mu = 0 it is
    (tau - rho (1 - rho^tau)/(1 - rho))/(1 - rho) (Wang et al. 2020, Section 4).
    """
    moved = velocity = 0.0
    for step in range(steps):
        gradient = 1 - mu * rate * moved
        velocity = gradient if step == 0 else momentum * velocity + (1 - dampening) * gradient
        if momentum == 0:
            velocity = gradient
        moved += gradient + momentum * velocity if nesterov else velocity
    return moved
