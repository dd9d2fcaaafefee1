"""Counts by class, compared with torchmetrics, and their memory."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassF1Score

from fedlit.federated.scores import PredictionCounter, Scores


def batches(classes: int, sizes: tuple[int, ...] = (1, 40, 300)) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Logits that are right in about half of the cases; the last class does not occur."""
    generator = torch.Generator().manual_seed(classes)
    found = []
    for size in sizes:
        targets = torch.randint(0, max(1, classes - 1), (size,), generator=generator)
        logits = torch.randn(size, classes, generator=generator)
        found.append((logits + 2 * torch.nn.functional.one_hot(targets, classes), targets))
    return found


def scores(classes: int) -> Scores:
    tally = PredictionCounter(classes)
    for batch in batches(classes):
        tally.update(*batch)
    return tally.compute()


@pytest.mark.parametrize("classes", [2, 3, 10, 47, 100])
def test_accuracy_f1_and_confusion_are_those_of_torchmetrics_to_the_bit(classes: int) -> None:
    theirs = {
        "accuracy": MulticlassAccuracy(classes, average="micro"),
        "f1": MulticlassF1Score(classes, average="macro"),
        "confusion": MulticlassConfusionMatrix(classes),
    }
    for batch in batches(classes):
        for metric in theirs.values():
            metric.update(*batch)
    mine = scores(classes)
    assert mine.accuracy() == float(theirs["accuracy"].compute())
    assert mine.f1_macro() == float(theirs["f1"].compute())
    assert torch.equal(mine.confusion, theirs["confusion"].compute())


def test_the_confusion_matrix_of_many_classes_has_bins_of_consecutive_classes() -> None:
    classes, width = 250, 3
    whole = torch.zeros(classes, classes, dtype=torch.int64)
    for logits, targets in batches(classes):
        whole.index_put_((targets, logits.argmax(1)), torch.ones(len(targets), dtype=torch.int64), accumulate=True)
    expected = torch.zeros(84, 84, dtype=torch.int64)
    for row in range(classes):
        for column in range(classes):
            expected[row // width, column // width] += whole[row, column]
    assert torch.equal(scores(classes).confusion, expected)
    assert torch.equal(scores(classes).hits, whole.diag())


def test_without_predictions_every_score_is_0() -> None:
    empty = Scores(*(torch.zeros(3, dtype=torch.int64) for _ in range(3)), torch.zeros(3, 3, dtype=torch.int64))
    assert (empty.accuracy(), empty.f1_macro()) == (0.0, 0.0)


def test_memory_for_a_million_classes_grows_with_the_classes_and_not_with_pairs() -> None:
    tally = PredictionCounter(1_000_000)
    tally.update(torch.zeros(1, 1_000_000), torch.tensor([999_999]))
    numbers = sum(getattr(tally, name).numel() for name in ("hits", "predicted", "true", "confusion"))
    assert numbers <= 3 * 1_000_000 + 100**2
    assert tally.compute().accuracy() == 0
