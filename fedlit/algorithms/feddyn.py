"""FedDyn: a linear term that each client remembers makes local and global optima agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fedlit.errors import InputError
from fedlit.federated.aggregate import WeightedMean
from fedlit.federated.algorithm import Algorithm, single_mu
from fedlit.federated.client import ClientModule
from fedlit.federated.records import Broadcast, ClientTask, Weights
from fedlit.federated.state import Layout


class FedDyn(Algorithm):
    """FedDyn (Acar et al. 2021, arXiv:2111.04263, Algorithm 1): FedProx with a memory.

    Client k minimises F_k(w) - <g_k, w> + alpha/2 ||w - w_t||^2 and then takes g_k <- g_k - alpha (w_k - w_t). The
    server keeps h <- h - alpha |S|/N (mean_S w_k - w_t) and its new model is mean_S w_k - h/alpha. alpha is
    ``model.mu``: one number, more than 0, that does not change. A mean weights clients as ``federation.averaging``
    says; the paper's is ``uniform``.
    """

    keeps = True
    changes_fit = True

    def __init__(self) -> None:
        self._h: Tensor | None = None  # (T,)

    def prepare(self, client: ClientModule, num_clients: int) -> None:
        self._num_clients = num_clients

    def begin(self, client: ClientModule, kept: Tensor | None) -> None:
        client.correction = None if kept is None else -kept.to(client.broadcast.weights.floats)

    def end(self, client: ClientModule, task: ClientTask, kept: Tensor | None) -> Tensor:
        change = client.moved() * -single_mu(client.broadcast, "FedDyn")
        return change if kept is None else kept.to(change) + change

    def aggregation(self, sent: Broadcast, layout: Layout) -> WeightedMean:
        if single_mu(sent, "FedDyn") == 0:
            raise InputError("FedDyn's alpha is model.mu, which is 0; set it to 0.01, for example")
        return super().aggregation(sent, layout)

    def conclude(self, sent: Broadcast, layout: Layout, updates: WeightedMean) -> Weights:
        alpha, mean = single_mu(sent, "FedDyn"), updates.mean()
        moved = (mean.floats - sent.weights.floats)[: layout.num_trainable]
        change = moved * (-alpha * updates.count / self._num_clients)
        self._h = change if self._h is None else self._h.to(change) + change
        floats = mean.floats.clone()
        floats[: layout.num_trainable] -= self._h / alpha
        return Weights(floats, mean.counts)

    def state_dict(self) -> dict[str, Any]:
        return {} if self._h is None else {"h": self._h.cpu()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._h = state.get("h")
