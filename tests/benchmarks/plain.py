"""The workload's convolutional network as a user writes it, from PyTorch's modules alone."""

from __future__ import annotations

from torch import nn

from fedlit.models.init import he_
from tests.benchmarks.baselines import cnn


class PlainCNN(nn.Sequential):
    """What ``fedlit.models.EmnistCNN`` is by default, with the same weights at the same seed."""

    def __init__(self, num_classes: int, image_size: int = 28) -> None:
        layers = cnn(image_size, num_classes)
        super().__init__(layers)
        output = layers[-1]
        assert isinstance(output, nn.Linear)
        he_(self, output)
