"""FedNova: updates are brought to the same number of steps before they are averaged."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from fedlit.errors import InputError
from fedlit.federated.aggregate import WeightedMean
from fedlit.federated.algorithm import Algorithm, check_single_mu, plain_sgd
from fedlit.federated.client import ClientModule
from fedlit.federated.exact import exact_sum
from fedlit.federated.mu import Mu
from fedlit.federated.ranks import listed
from fedlit.federated.records import Broadcast, ClientUpdate, Weights
from fedlit.federated.state import Layout


class FedNova(Algorithm):
    """FedNova (Wang et al. 2020, arXiv:2007.07481, Section 4): no bias towards clients that take more steps.

    Client k's local changes are eta sum_j a_kj g_kj, with ||a_k||_1 = ``normaliser`` of its steps. The server averages
    the normalised changes and takes tau_eff = sum_k p_k ||a_k||_1 of them:

        w_{t+1} = w_t + tau_eff sum_k p_k (w_k - w_t) / ||a_k||_1.

    Clients have to train with SGD, with or without momentum, and the proximal term needs one mu. Buffers are averaged
    plainly.
    """

    def prepare(self, client: ClientModule, mu: Mu, num_clients: int) -> None:
        check_single_mu(client, mu, "FedNova")
        if client.clip_norm is not None and (mu.value > 0 or type(mu).update is not Mu.update):
            raise InputError(
                f"FedNova is defined for steps that are linear in the proximal gradient, which model.client_clip_norm "
                f"{client.clip_norm} cuts; leave one of them out, or set model.mu to 0"
            )
        settings = plain_sgd(client, "FedNova")
        self._sgd = float(settings["lr"]), float(settings["momentum"]), float(settings["dampening"])
        self._nesterov = bool(settings["nesterov"])

    def aggregation(self, sent: Broadcast, layout: Layout) -> WeightedMean:
        rate, momentum, dampening = self._sgd
        return _Normalised(sent.weights, rate * sent.rate, momentum, dampening, self._nesterov, sent.mu[0])

    def conclude(self, sent: Broadcast, layout: Layout, updates: WeightedMean) -> Weights:
        assert isinstance(updates, _Normalised)
        mean, moved = updates.mean(), sent.weights.floats + updates.change(sent.weights)
        floats = torch.cat([moved[: layout.num_trainable], mean.floats[layout.num_trainable :]])
        return mean._replace(floats=floats)


@cache
def normaliser(
    steps: int, rate: float, momentum: float = 0.0, dampening: float = 0.0, nesterov: bool = False, mu: float = 0.0
) -> float:
    """||a||_1 of ``steps`` steps of SGD on a proximal objective: how far a constant gradient of 1 carries, over eta.

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


class _Normalised(WeightedMean):
    """Averages also (w_k - w_t)/||a_k||_1."""

    def __init__(
        self, start: Weights, rate: float, momentum: float, dampening: float, nesterov: bool, mu: float
    ) -> None:
        super().__init__(start)
        self._divided = WeightedMean(start)  # with weights p_k / ||a_k||_1
        self._lengths: list[float] = []  # p_k ||a_k||_1
        self._length_of = lambda steps: normaliser(steps, rate, momentum, dampening, nesterov, mu)

    def add(self, update: ClientUpdate) -> None:
        super().add(update)
        weight, length = update.task.weight, self._length_of(update.task.steps)
        self._divided.add_state(update.weights, weight / length)
        self._lengths.append(weight * length)

    def reduce(self) -> None:
        super().reduce()
        self._divided.reduce()
        self._lengths = listed(self._lengths)

    def change(self, start: Weights) -> Tensor:
        """tau_eff sum_k p_k (w_k - w_t) / ||a_k||_1, (P,)."""
        steps = exact_sum(self._lengths) / self.weight  # tau_eff
        return (self._divided.mean().floats - start.floats) * (steps * self._divided.weight / self.weight)
