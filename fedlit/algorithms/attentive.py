"""Attentive aggregation: the server weights clients layer by layer, by scores of their updates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from fedlit.algorithms.algorithm import Algorithm
from fedlit.algorithms.collected import Collected
from fedlit.core.average import WeightedMean
from fedlit.core.errors import InputError
from fedlit.core.given import one_of
from fedlit.core.layout import Layout
from fedlit.core.ranks import gather_dict
from fedlit.core.records import Broadcast, Weights

By = Literal["distance", "similarity"]
Score: TypeAlias = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]


class AttentiveAggregation(Algorithm):
    """Weights clients by a softmax of their scores, for each layer (trainable tensor) separately.

    Client k's weight in layer l is proportional to n_k exp(s_kl / temperature), or to exp(s_kl / temperature) with
    ``federation.averaging: uniform``. The score s_kl is

    - ``distance``: ||w_kl - w_tl||, as in FedAtt (Ji et al. 2019, arXiv:1812.07108, Equations 4 and 5): clients that
      moved farther count more. FedAtt's step size is the ``lr`` of ``model.server_optimizer``;
    - ``similarity``: the cosine between the client's update of the layer and the plain average update: clients that
      agree with the cohort count more, and outliers less.

    An infinite temperature is FedAvg. Buffers and frozen parameters are averaged plainly.

    Each rank holds the updates of its share of the cohort in memory until all scores are known.

    Args:
        by: The score.
        temperature: In the units of the score, more than 0; a smaller temperature favours fewer clients.
    """

    def __init__(self, by: By = "distance", temperature: float = 1.0) -> None:
        if not temperature >= 1e-30:  # below this, scores divided by the temperature overflow
            raise InputError(f"temperature must be > 0, got {temperature}; 1 is the paper's, .inf is FedAvg")
        self._score = {"distance": distances, "similarity": similarities}[one_of("by", by, get_args(By))]
        self._temperature = temperature

    def reducer(self, sent: Broadcast) -> WeightedMean:
        return _Attentive(sent.weights, self.facts.layout, self._score, self._temperature)


class _Attentive(Collected):
    """Averages with weights from the clients' scores.

    Args:
        start: w_t.
        layout: The layout of the network, with L layers.
        score: From the layers of an update and those of the average update to scores (L,).
        temperature: Divisor of the scores.
    """

    def __init__(self, start: Weights, layout: Layout, score: Score, temperature: float) -> None:
        super().__init__(start)
        self._layout, self._score, self._temperature = layout, score, temperature

    def mean(self) -> Weights:
        mean, size, layers = super().mean(), self._layout.num_trainable, self._layout.split_trainable
        start = self._like.floats[:size]
        average = layers(mean.floats[:size] - start)
        moved = {u.task.client: layers(u.weights.floats[:size] - start) for u in self.updates}
        scores = {client: self._score(update, average) for client, update in moved.items()}
        weights = {u.task.client: u.task.weight for u in self.updates}
        shares = attention(gather_dict(scores), gather_dict(weights), self._temperature)
        change = WeightedMean(mean._replace(floats=torch.zeros_like(start, dtype=torch.float64)))
        for client, update in moved.items():
            weighted = [layer.double() * share for layer, share in zip(update, shares[client].tolist(), strict=True)]
            change.add_state(mean._replace(floats=torch.cat(weighted)), 1.0)
        change.reduce()
        total = change.mean().floats * change.weight  # the sum over clients, (T,)
        return mean._replace(floats=torch.cat([(start + total).to(start), mean.floats[size:]]))


def attention(scores: dict[int, Tensor], weights: dict[int, float], temperature: float) -> dict[int, Tensor]:
    """Each client's share of each layer, (L,), proportional to weight * exp(score / temperature)."""
    clients = sorted(scores)
    logits = torch.stack([scores[k] / temperature + math.log(weights[k]) for k in clients])  # (K, L)
    return dict(zip(clients, logits.softmax(0), strict=True))


def distances(update: Sequence[Tensor], average: Sequence[Tensor]) -> Tensor:
    """||update|| of each layer, (L,)."""
    return torch.stack([layer.double().norm() for layer in update]).cpu()


def similarities(update: Sequence[Tensor], average: Sequence[Tensor]) -> Tensor:
    """Cosine between an update and the average update in each layer, (L,); 0 if either is zero."""
    pairs = zip(update, average, strict=True)
    return torch.stack([torch.cosine_similarity(u.double(), a.double(), dim=0) for u, a in pairs]).cpu()
