"""Scores of held-out data, collected over batches."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import one_hot

from fedlit.federated.evaluation import Evaluation, logits_and_loss

#: Four examples of three classes, of which a network that predicts 0, 1, 1, 1 gets three right.
TARGETS = torch.tensor([0, 1, 1, 2])
GUESSES = one_hot(torch.tensor([0, 1, 1, 1]), 3).float()


def _met(evaluation: Evaluation, *sizes: int) -> tuple[list[int], list[int], float]:
    """Hits and examples by class, and the mean loss, of batches of these sizes."""
    for logits, targets in zip(GUESSES.split(sizes), TARGETS.split(sizes), strict=True):
        logits, loss = logits_and_loss(nn.Identity(), nn.CrossEntropyLoss(), logits, targets)
        evaluation.update(logits, targets, [loss])
    scores, loss = evaluation.compute()
    return scores.hits.tolist(), scores.true.tolist(), loss


def test_scores_and_loss_are_those_of_all_examples_however_they_are_batched() -> None:
    exponents = GUESSES.double().exp()
    by_hand = -(exponents[range(4), TARGETS] / exponents.sum(1)).log().mean().item()
    for sizes in ((4,), (1, 3), (2, 2)):
        hits, true, loss = _met(Evaluation(3), *sizes)
        assert (hits, true) == ([1, 2, 0], [1, 2, 1])
        assert abs(loss - by_hand) < 1e-6


def test_computing_scores_resets_them_and_they_are_not_saved() -> None:
    evaluation = Evaluation(3)
    assert _met(evaluation, 4) == _met(evaluation, 4)
    assert evaluation.state_dict() == {}
