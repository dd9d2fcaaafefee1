"""The description of the data for the user."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedlit.data import Examples, MNIST5k, Tensors
from fedlit.data.describe import describe


def told(inputs: torch.Tensor, targets: list[int], names: list[str]) -> list[str]:
    train = Examples(inputs, torch.tensor(targets))
    return list(describe(train, Examples(inputs[:1], torch.tensor(targets[:1])), names, [0.25], [0.5]))


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (torch.zeros(3, 1, 4, 5, dtype=torch.uint8), "1x4x5 uint8 pixels, normalised by mean 0.25 and std 0.5"),
        (torch.tensor([[3, 4], [0, 9], [1, 1]]), "2 int64 tokens from 0 to 9, not normalised"),
        (torch.zeros(3, 7, 3), "7x3 float32 numbers, not normalised"),
    ],
)
def test_shape_kind_and_normalisation_are_described_in_one_line(inputs: torch.Tensor, said: str) -> None:
    (line,) = told(inputs, [0, 1, 1], ["a", "b"])
    assert line == f"data: 3 training and 1 test examples of 2 classes; inputs are {said}"


class Centred(MNIST5k):
    """Digits with a conversion of their own."""

    def transform(self, x: torch.Tensor) -> torch.Tensor:
        return x / 127.5 - 1


def test_an_own_transform_is_named_instead_of_the_normalisation_that_it_replaces() -> None:
    data = Centred()
    data.setup()
    assert data.notes[0].endswith("inputs are 1x28x28 uint8 pixels, converted by Centred.transform")


def test_labels_that_start_at_1_are_reported() -> None:
    _, line = told(torch.zeros(3, 2), [1, 2, 3], ["0", "1", "2", "3"])
    assert line == (
        "data: 1 of 4 classes have no training example (0); "
        "labels start at 1: if that is a mistake, renumber them from 0"
    )


def test_empty_classes_are_named_and_many_are_counted() -> None:
    _, line = told(torch.zeros(2, 2), [0, 3], list("abcd"))
    assert line == "data: 2 of 4 classes have no training example (b, c)"
    _, bins, line = told(torch.zeros(2, 2), [0, 999], [str(i) for i in range(1000)])
    assert bins == "data: pictures show the 1,000 classes in bins of 10 consecutive classes"
    assert line == "data: 998 of 1,000 classes have no training example (1, 2, 3, 4, 5, 6, 7, 8 and 990 more)"


def test_setup_describes_the_data_once(caplog: pytest.LogCaptureFixture) -> None:
    data = Tensors(train=(np.ones((20, 6), np.int64), np.arange(20) % 2), num_clients=2)
    with caplog.at_level("INFO"):
        data.setup()
        data.setup()
    assert caplog.text.count("6 int64 tokens from 1 to 1, not normalised") == 1
    assert len(data.notes) == 1
