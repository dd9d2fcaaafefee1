"""Optional measurements from the FedProx paper: how much clients differ, and how well they solve their problems."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from fedlit.clients.client import ClientModule
from fedlit.clients.gradients import full_gradient
from fedlit.core.counts import at_least
from fedlit.core.errors import InputError
from fedlit.core.exact import ExactSum, dot
from fedlit.core.layout import Layout
from fedlit.core.patterns import compile_pattern
from fedlit.core.ranks import is_distributed
from fedlit.data.module import FederatedData
from fedlit.federated.meter import blocks_of

#: Names that a block must not have: they end the names of other metrics; ``rest`` is for parameters without a block.
RESERVED = ("mean", "cosine", "cosine_of_pairs", "unweighted", "rest")
BLOCKS = {"attention": r"\battention\b", "head": r"\b(head|classifier|fc|linear)\b"}


class Diagnostics:
    """Measurements beyond the usual metrics of a round, and how often they are made.

    - ``diagnostics/train_loss``: f(w) = sum_k p_k F_k(w) of the model that the round starts from, p_k = n_k / n;
    - ``diagnostics/dissimilarity``: B(w) there (Li et al. 2020, Definition 3), 1 when all clients agree;
      ``diagnostics/gradient_variance``: E_k ||grad F_k - grad f||^2, which their Figure 2 shows; and
      ``.._unweighted``: the same with a plain mean over clients in place of E_k, as in the authors' code. B(w) also for
      each block of parameters, ``diagnostics/dissimilarity_head`` and so on;
    - ``diagnostics/gamma_mean``, ``_max``: gamma_k of the fits (Definition 2), over the cohort;
    - ``drift/BLOCK``: drift by block, in every round.

    The first two cost a forward and backward pass over all training examples each time, as much as a round in which
    every client trains one epoch; gamma costs two such passes over the data of the cohort.

    Args:
        every: Number of rounds from one measurement to the next, at least 1; the first round is measured.
        gamma: Whether gamma is measured.
        dissimilarity: Whether the training loss and the dissimilarity are measured.
        blocks: From the name of a block to a regular expression that is searched for in the parameters' names. A
            parameter belongs to the first block that matches, else to ``rest``; each block must have some. None is
            attention, head and rest, as far as their names are found.
    """

    def __init__(
        self, every: int = 10, gamma: bool = True, dissimilarity: bool = True, blocks: dict[str, str] | None = None
    ) -> None:
        self.every = at_least(1, "every", every, "1 measures each round")
        self.gamma = gamma
        self.dissimilarity = dissimilarity
        self.blocks = BLOCKS if blocks is None else blocks
        self._given = blocks or {}
        _check_blocks(self.blocks)

    def due(self, round: int) -> bool:
        """Whether a round, counted from 0, is measured."""
        return round % self.every == 0

    def check(self, layout: Layout) -> None:
        """Refuse a given block without parameters, of which nothing would be logged.

        Raises:
            InputError: Naming the block and some parameters.
        """
        found = blocks_of(layout, self.blocks)
        for block, pattern in self._given.items():
            if block not in found:
                raise InputError(
                    f"diagnostics.blocks.{block}: {pattern!r} is in the name of no trainable parameter, or only of "
                    f"those in earlier blocks; their names are {', '.join(layout.trainable[:4])}, ...; correct it, or "
                    "leave it out"
                )

    def names(self, layout: Layout) -> list[str]:
        """Names of the metrics of ``before`` for a network with this layout."""
        if not self.dissimilarity:
            return []
        spread = GradientSpread(layout)
        spread.add(torch.zeros(layout.num_trainable), loss=0.0, mass=1.0)
        return [f"diagnostics/{name}" for name in spread.summary(blocks_of(layout, self.blocks))]

    def before(self, client: ClientModule, data: FederatedData) -> dict[str, float]:
        """Measure the model that ``client`` has received, on the training data of all clients, shared by the ranks.

        Afterwards ``client.net`` holds that model.
        """
        if not self.dissimilarity:
            return {}
        client.load()
        spread = GradientSpread(client.layout)
        shares = data.partition.sizes / data.partition.sizes.sum()
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if is_distributed() else (0, 1)
        for k in np.flatnonzero(shares)[rank::ranks]:
            loss = full_gradient(client.net, client.loss, data.client_eval_batches(int(k)))
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in client.parameters_]
            spread.add(torch.cat([g.reshape(-1) for g in gradients]), loss, float(shares[k]))
        client.net.zero_grad()
        spread.reduce()
        return {f"diagnostics/{name}": v for name, v in spread.summary(blocks_of(client.layout, self.blocks)).items()}


class GradientSpread:
    """How much the clients' gradients differ at one model; it needs memory for two gradients only.

    With masses p_k that sum to 1, grad f = sum_k p_k grad F_k:

    - B^2 = sum_k p_k ||grad F_k||^2 / ||grad f||^2 (Li et al. 2020, Definition 3);
    - variance = sum_k p_k ||grad F_k - grad f||^2.

    Args:
        layout: The layout of the network, with L trainable tensors.
    """

    def __init__(self, layout: Layout) -> None:
        self._split = layout.split_trainable
        size, cpu = 2 + len(layout.trainable), torch.device("cpu")
        # Sums over clients, with masses p_k and with masses 1: of gradients, and of scalars.
        self._gradients = [ExactSum(layout.num_trainable, cpu) for _ in range(2)]
        self._numbers = [ExactSum(size, cpu) for _ in range(2)]  # 1, the loss, the square of each tensor

    def add(self, gradient: Tensor, loss: float, mass: float) -> None:
        """Add a client's gradient (T,), its loss F_k and its mass p_k."""
        gradient = gradient.detach().cpu()
        squares = [dot(part, part) for part in self._split(gradient)]
        numbers = torch.tensor([1.0, loss, *squares], dtype=torch.float64)
        for gradients, sums, weight in zip(self._gradients, self._numbers, (mass, 1.0), strict=True):
            gradients.add(gradient, weight)
            sums.add(numbers, weight)

    def reduce(self) -> None:
        """Sum over all ranks; does nothing in a single process."""
        for part in (*self._gradients, *self._numbers):
            part.reduce()

    def summary(self, blocks: Mapping[str, NDArray[np.bool_]]) -> dict[str, float]:
        """Loss, dissimilarity and variance; dissimilarity also for each block, given by a mask (L,) of tensors."""
        sums = [part.value() for part in self._numbers]
        (mass, loss), (clients, _) = (part[:2].tolist() for part in sums)
        total, plain = (part.value() / n for part, n in zip(self._gradients, (mass, clients), strict=True))  # (T,) both
        parts = torch.tensor([dot(part, part) for part in self._split(total)], dtype=torch.float64)  # (L,)
        squares = torch.stack([sums[0][2:] / mass, sums[1][2:] / clients])  # (2, L)
        square = float(parts.sum())
        weighted, unweighted = squares.sum(1).tolist()
        result = {
            "train_loss": loss / mass,
            "dissimilarity": _ratio(weighted, square),
            "dissimilarity_unweighted": _ratio(unweighted, square),
            "gradient_variance": max(weighted - square, 0.0),
            "gradient_variance_unweighted": max(unweighted - 2 * dot(plain, total) + square, 0.0),
        }
        for name, mask in blocks.items():
            chosen = torch.from_numpy(mask)
            result[f"dissimilarity_{name}"] = _ratio(float(squares[0, chosen].sum()), float(parts[chosen].sum()))
        return result


def _ratio(mean_square: float, square: float) -> float:
    """B from E||grad F_k||^2 and ||grad f||^2; 1 if both are zero, as all clients agree then."""
    if square == 0:
        return 1.0 if mean_square == 0 else math.inf
    return math.sqrt(mean_square / square)


def _check_blocks(blocks: Mapping[str, str]) -> None:
    """Refuse names of blocks that are names of other metrics, and patterns that are not regular expressions."""
    for name, pattern in blocks.items():
        if name in RESERVED:
            raise InputError(
                f"blocks has a block {name!r}, but drift/{name} or diagnostics/dissimilarity_{name} is the name of "
                "another metric; give the block another name"
            )
        compile_pattern(pattern, f"blocks.{name}")
