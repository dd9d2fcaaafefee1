"""FedDyn: a linear term, kept by each client, makes local and global optima agree."""

from __future__ import annotations

from torch import Tensor

from fedlit.algorithms.algorithm import Algorithm, Average, Facts, State
from fedlit.core.errors import InputError
from fedlit.core.records import Broadcast, Weights
from fedlit.mu import ConstantMu


class FedDyn(Algorithm):
    """FedDyn (Acar et al. 2021, arXiv:2111.04263, Algorithm 1): FedProx with a linear term that clients keep.

    Client k minimises F_k(w) - <g_k, w> + alpha/2 ||w - w_t||^2 and then takes g_k <- g_k - alpha (w_k - w_t). The
    server keeps h <- h - alpha |S|/N (mean_S w_k - w_t) and its new model is mean_S w_k - h/alpha. alpha is
    ``model.mu``: one number, more than 0, that does not change. Means weight clients by ``federation.averaging``; the
    paper's is ``uniform``. Parameters that stay with the clients (``KeepLocal`` in a chain) have no linear term.
    """

    def prepare(self, facts: Facts) -> None:
        super().prepare(facts)
        if not isinstance(facts.mu, ConstantMu) or facts.mu.value == 0:
            raise InputError(
                f"FedDyn's alpha is model.mu, which must be one constant number > 0, got {facts.mu.value} of "
                f"{type(facts.mu).__name__}; set it to 0.01, for example"
            )
        self._alpha = facts.mu.value

    def resume(self, state: State) -> None:
        """Refuse an alpha other than that of the rounds before."""
        if state.get("alpha", self._alpha) != self._alpha:
            raise InputError(
                f"FedDyn's state is valid for one alpha, model.mu, which was {state['alpha']} and now is {self._alpha};"
                " use the run's config.yaml, or start anew without --ckpt_path"
            )

    @property
    def kept_size(self) -> int:
        return self.facts.layout.num_trainable

    def begin(self, sent: Broadcast, kept: Tensor | None) -> Tensor | None:
        return None if kept is None else -self.facts.shared(kept.to(sent.weights.floats))

    def end(self, sent: Broadcast, ended: Weights, steps: int, kept: Tensor | None) -> Tensor:
        change = (ended.floats - sent.weights.floats)[: self.kept_size] * -self._alpha
        return self.facts.shared(change if kept is None else kept.to(change) + change).float()

    def conclude(self, state: State, sent: Broadcast, average: Average) -> tuple[State, Weights]:
        size, mean = self.kept_size, average.weights
        moved = (mean.floats - sent.weights.floats)[:size]
        share = len(average.tasks) / self.facts.num_clients * (average.total / average.answered)  # of mean_S
        change = moved * (-self._alpha * share)
        h = self.facts.shared(state["h"].to(change) + change if "h" in state else change)
        floats = mean.floats.clone()
        floats[:size] -= h / self._alpha
        return {**state, "h": h, "alpha": self._alpha}, mean._replace(floats=floats)
