"""FedDyn: a linear term that each client remembers makes local and global optima agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fedlit.errors import InputError
from fedlit.federated.aggregate import WeightedMean
from fedlit.federated.algorithm import Algorithm
from fedlit.federated.client import ClientModule
from fedlit.federated.mu import ConstantMu, Mu
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
        self._resumed_alpha: float | None = None

    def prepare(self, client: ClientModule, mu: Mu, num_clients: int) -> None:
        if not isinstance(mu, ConstantMu) or mu.value == 0:
            raise InputError(
                f"FedDyn's alpha is model.mu, one number above 0 that does not change, got {mu.value} of "
                f"{type(mu).__name__}; set it to 0.01, for example"
            )
        if self._resumed_alpha not in (None, mu.value):
            raise InputError(
                f"FedDyn's memory is of one alpha, model.mu, which was {self._resumed_alpha} and is {mu.value}; use "
                "the run's config.yaml, or start anew without --ckpt_path"
            )
        self._alpha, self._num_clients = mu.value, num_clients

    def begin(self, client: ClientModule, kept: Tensor | None) -> None:
        client.correction = None if kept is None else -kept.to(client.broadcast.weights.floats)

    def end(self, client: ClientModule, task: ClientTask, kept: Tensor | None) -> Tensor:
        change = client.moved() * -self._alpha
        return change if kept is None else kept.to(change) + change

    def conclude(self, sent: Broadcast, layout: Layout, updates: WeightedMean) -> Weights:
        mean = updates.mean()
        moved = (mean.floats - sent.weights.floats)[: layout.num_trainable]
        change = moved * (-self._alpha * updates.count / self._num_clients)
        self._h = change if self._h is None else self._h.to(change) + change
        floats = mean.floats.clone()
        floats[: layout.num_trainable] -= self._h / self._alpha
        return mean._replace(floats=floats)

    def state_dict(self) -> dict[str, Any]:
        return {"alpha": self._alpha} | ({} if self._h is None else {"h": self._h.cpu()})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._h = state.get("h")
        self._resumed_alpha = state.get("alpha")
