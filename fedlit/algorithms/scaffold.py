"""SCAFFOLD: control variates take the drift out of local fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fedlit.errors import InputError
from fedlit.federated.aggregate import WeightedMean
from fedlit.federated.algorithm import Algorithm, plain_sgd
from fedlit.federated.client import ClientModule
from fedlit.federated.mu import Mu
from fedlit.federated.records import Broadcast, ClientTask, ClientUpdate, Weights
from fedlit.federated.state import Layout


class Scaffold(Algorithm):
    """SCAFFOLD (Karimireddy et al. 2020, arXiv:1910.06378, Algorithm 1, Option II).

    Every step of client k goes along g - c_k + c. After its K steps of rate eta from x to y, the client's control
    variate becomes c_k - c + (x - y)/(K eta), and the server's c moves by |S|/N times the mean change of the c_k of the
    cohort S. A mean weights clients as ``federation.averaging`` says; the paper's is ``uniform``. SCAFFOLD has no
    proximal term: set ``model.mu`` to 0, though nothing forbids one.

    Clients have to train with SGD without momentum or weight decay, as (x - y)/(K eta) is to be the mean of the
    gradients that they met; eta is that of the round, and where gradients are clipped they are met as clipped.
    """

    keeps = True
    changes_fit = True

    def __init__(self) -> None:
        self._control: Tensor | None = None  # c, (T,)

    def prepare(self, client: ClientModule, mu: Mu, num_clients: int) -> None:
        settings = plain_sgd(client, "SCAFFOLD")
        if settings["momentum"] or settings["weight_decay"]:
            raise InputError(
                f"SCAFFOLD takes a client's movement for the sum of its gradients, which momentum "
                f"{settings['momentum']} and weight decay {settings['weight_decay']} are not; set both to 0"
            )
        self._rate, self._num_clients = float(settings["lr"]), num_clients

    def message(self, global_model: Weights, layout: Layout) -> Tensor:
        if self._control is None:
            return torch.zeros_like(global_model.floats[: layout.num_trainable])
        return self._control.to(global_model.floats)

    def begin(self, client: ClientModule, kept: Tensor | None) -> None:
        control = client.broadcast.message
        client.correction = control.clone() if kept is None else control - kept.to(control)

    def end(self, client: ClientModule, task: ClientTask, kept: Tensor | None) -> Tensor:
        assert client.correction is not None  # c - c_k, since begin
        return client.moved() / (-task.steps * self._rate * client.rate) - client.correction

    def aggregation(self, sent: Broadcast, layout: Layout) -> WeightedMean:
        return _WithGradients(sent.weights, self._rate * sent.rate)

    def conclude(self, sent: Broadcast, layout: Layout, updates: WeightedMean) -> Weights:
        assert isinstance(updates, _WithGradients)
        gradient = updates.gradient(sent.weights)[: layout.num_trainable]
        # Each c_k of the cohort moved by (x - y)/(K eta) - c.
        self._control = sent.message + (gradient - sent.message) * (updates.count / self._num_clients)
        return updates.mean()

    def state_dict(self) -> dict[str, Any]:
        return {} if self._control is None else {"control": self._control.cpu()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._control = state.get("control")


class _WithGradients(WeightedMean):
    """Averages also (x - y)/(K eta), the mean gradient that a client met."""

    def __init__(self, start: Weights, rate: float) -> None:
        super().__init__(start)
        self._per_step = WeightedMean(start)  # with weights p/(K eta)
        self._rate = rate

    def add(self, update: ClientUpdate) -> None:
        super().add(update)
        self._per_step.add_state(update.weights, update.task.weight / (update.task.steps * self._rate))

    def reduce(self) -> None:
        super().reduce()
        self._per_step.reduce()

    def gradient(self, start: Weights) -> Tensor:
        """sum_k p_k (x - y_k)/(K_k eta) over sum_k p_k, (P,)."""
        return (start.floats - self._per_step.mean().floats) * (self._per_step.weight / self.weight)
