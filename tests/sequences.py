"""What is no picture, in small: sentences of tokens, and sequences of steps, with networks for them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

VOCABULARY, LENGTH, CLASSES = 40, 7, 3


def sentences(num: int = 60) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens (N, 7) of 0..39 and labels (N,): the first token is the label's own, the others are anything above."""
    draw = np.random.default_rng(0)
    labels = np.arange(num) % CLASSES
    tokens = draw.integers(CLASSES, VOCABULARY, (num, LENGTH))
    tokens[:, 0] = labels
    tokens[0, 1] = VOCABULARY - 1
    return tokens, labels


def steps(num: int = 60) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Sequences (N, 7, 3) and labels (N,): the mean over time is largest at the label."""
    labels = np.arange(num) % CLASSES
    noise = np.random.default_rng(0).normal(size=(num, LENGTH, CLASSES)).astype(np.float32)
    return noise + 3 * np.eye(CLASSES, dtype=np.float32)[labels][:, None], labels


class Bag(nn.Module):
    """The mean of the tokens' embeddings, classified: (B, T) -> (B, classes)."""

    def __init__(self, classes: int = CLASSES, vocabulary: int = VOCABULARY, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(vocabulary, width)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embedding(tokens).mean(1))  # type: ignore[no-any-return]


class Steps(nn.Module):
    """The mean over time, classified: (B, T, 3) -> (B, classes)."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(CLASSES, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.mean(1))  # type: ignore[no-any-return]
