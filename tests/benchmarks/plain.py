"""The workload's convolutional network as a user writes it, from PyTorch's modules alone."""

from __future__ import annotations

from torch import nn

from fedlit.models.init import he_


class PlainCNN(nn.Sequential):
    """What ``fedlit.models.EmnistCNN`` is by default, with the same weights at the same seed."""

    def __init__(self, num_classes: int, image_size: int = 28) -> None:
        output = nn.Linear(128, num_classes)
        super().__init__(
            nn.Sequential(
                nn.Conv2d(1, 32, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(32, 64, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ),
            nn.Sequential(nn.Flatten(), nn.Linear(64 * (image_size // 4) ** 2, 128), nn.ReLU(), output),
        )
        he_(self, output)
