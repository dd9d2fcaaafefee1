"""SCAFFOLD: control variates correct the drift of local fits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedlit.algorithms.algorithm import Algorithm, Average, Facts, State
from fedlit.core.errors import InputError
from fedlit.core.records import Broadcast, ClientTask, Weights


class Scaffold(Algorithm):
    """SCAFFOLD (Karimireddy et al. 2020, arXiv:1910.06378, Algorithm 1, Option II): control variates against drift.

    Every step of client k goes along g - c_k + c. After its K steps of rate eta from x to y, the client's control
    variate becomes c_k - c + (x - y)/(K eta), and the server's c changes by |S|/N times the mean change of the c_k of
    the cohort S. Means weight clients by ``federation.averaging``; the paper's is ``uniform``. The paper has no
    proximal term: set ``model.mu`` to 0, though another value is allowed.

    Clients have to train with SGD without momentum or weight decay, because (x - y)/(K eta) stands for the mean of
    their gradients, after clipping if gradients are clipped; eta is the round's learning rate. If updates are clipped
    or averaged robustly, c is still computed from the clients' unchanged updates. Parameters that stay with the clients
    (``KeepLocal`` in a chain) have no control variates, as a fit does not start from the server's.
    """

    def prepare(self, facts: Facts) -> None:
        super().prepare(facts)
        settings = facts.plain_sgd("SCAFFOLD")
        if settings["momentum"] or settings["weight_decay"]:
            raise InputError(
                f"SCAFFOLD needs SGD without momentum and weight decay, got momentum {settings['momentum']} and weight "
                f"decay {settings['weight_decay']}; set both to 0 in model.client_optimizer"
            )
        if not settings["lr"] > 0:
            raise InputError(
                f"SCAFFOLD divides by the clients' learning rate, got {float(settings['lr'])}; set "
                "model.client_optimizer.lr to a number > 0"
            )
        self._rate = float(settings["lr"])

    @property
    def kept_size(self) -> int:
        return self.facts.layout.num_trainable

    def message(self, state: State, model: Weights) -> Tensor:
        control: Tensor | None = state.get("control")
        start = model.floats[: self.facts.layout.num_trainable]
        return torch.zeros_like(start) if control is None else control.to(start)

    def begin(self, sent: Broadcast, kept: Tensor | None) -> Tensor:
        control = sent.message
        return self.facts.shared(control.clone() if kept is None else control - kept.to(control))

    def end(self, sent: Broadcast, ended: Weights, steps: int, kept: Tensor | None) -> Tensor:
        moved = (ended.floats - sent.weights.floats)[: len(sent.message)]  # y - x
        return self.facts.shared(moved / (-steps * self._rate * sent.rate) - self.begin(sent, kept)).float()

    def extra_weights(self, sent: Broadcast, task: ClientTask) -> Mapping[str, float]:
        return {"per step": task.weight / (task.steps * (self._rate * sent.rate))}

    def conclude(self, state: State, sent: Broadcast, average: Average) -> tuple[State, Weights]:
        per_step, total = average.extra["per step"]
        # sum_k p_k (x - y_k)/(K_k eta) over sum_k p_k: the clients' mean gradient.
        gradient = ((sent.weights.floats - per_step.floats) * (total / average.answered))[: len(sent.message)]
        # Each c_k of the cohort changed by (x - y)/(K eta) - c.
        control = sent.message + (gradient - sent.message) * (len(average.tasks) / self.facts.num_clients)
        return {**state, "control": self.facts.shared(control)}, average.weights
