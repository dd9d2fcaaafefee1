from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from fedlit.core.errors import InputError
from fedlit.models import SoftmaxRegression


def test_the_first_loss_is_that_of_guessing_for_any_image() -> None:
    loss = F.cross_entropy(SoftmaxRegression()(torch.randn(5, 1, 28, 28)), torch.arange(5))
    assert loss.item() == pytest.approx(math.log(47))


def test_its_first_gradient_is_the_closed_form() -> None:
    model, x, label = SoftmaxRegression(num_classes=3, image_size=2), torch.randn(1, 1, 2, 2), torch.tensor([1])
    F.cross_entropy(model(x), label).backward()
    error = torch.tensor([1 / 3, 1 / 3 - 1, 1 / 3])  # softmax of zeros minus the one-hot label
    torch.testing.assert_close(model.linear.weight.grad, torch.outer(error, x.flatten()))
    torch.testing.assert_close(model.linear.bias.grad, error)


@pytest.mark.parametrize("options", [{"num_classes": 0}, {"in_channels": 0}, {"image_size": -1}])
def test_a_size_below_1_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"must be at least 1, got .*; use"):
        SoftmaxRegression(**options)
