"""Arrays as they come to tensors as fedlit keeps them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedlit.data.examples import Examples
from fedlit.errors import InputError

#: Class numbers above are identifiers, not classes: a network has an output for each.
MAX_CLASSES = 1_000_000


def as_examples(inputs: Any, targets: Any, groups: Any = None) -> Examples:
    """Check and convert arrays, tensors or lists.

    Args:
        inputs: See `as_inputs`.
        targets: Class numbers from 0 of any integer type, shape (N,).
        groups: Integers are kept, anything else (names) is numbered in sorted order, shape (N,); or None.

    Raises:
        InputError: If they cannot be used as they are.
    """
    return Examples(as_inputs(inputs), _as_targets(targets), None if groups is None else _as_groups(groups))


def as_inputs(inputs: Any) -> Tensor:
    """Inputs as a uint8 or float32 tensor of shape (N, C, ...).

    - bool and floats become float32, which is never normalised; integers must be pixel values in 0..255.
    - (N, H, W) becomes (N, 1, H, W). (N, H, W, C) with C of 1 or 3 becomes (N, C, H, W), unless the second dimension
      is 1 or 3 as well. Other shapes stay.
    """
    array = np.asarray(inputs)
    if array.ndim < 2:
        raise InputError(f"inputs must have shape (N, H, W) or (N, C, ...), got {array.shape}; reshape them")
    if array.dtype.kind in "fb":
        with np.errstate(over="ignore"):
            array = array.astype(np.float32, copy=False)
    elif array.dtype.kind in "iu":
        if array.dtype != np.uint8 and array.size and not 0 <= array.min() <= array.max() <= 255:
            raise InputError(
                f"integer inputs must be pixels in 0..255, got {array.min()}..{array.max()}; give float32 instead"
            )
        array = array.astype(np.uint8, copy=False)
    else:
        raise InputError(f"inputs must be numbers, got {array.dtype}; convert them to uint8 or float32")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3) and array.shape[1] not in (1, 3):
        array = np.moveaxis(array, 3, 1)
    return _tensor(array)


def all_finite(examples: Examples) -> Examples:
    """The same examples.

    Raises:
        InputError: If an input is NaN, or infinite in float32; the message names the first such row.
    """
    inputs = examples.inputs
    if inputs.is_floating_point() and not bool(inputs.isfinite().all()):
        row = int(inputs.flatten(1).isfinite().all(1).int().argmin())
        value = float(inputs[row][~inputs[row].isfinite()][0])
        raise InputError(
            f"inputs must be finite numbers in float32, got {value} in row {row}; mend or leave out the row"
        )
    return examples


def _as_targets(targets: Any) -> Tensor:
    array = np.asarray(targets)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise InputError(f"labels must be integers of shape (N,), got {array.dtype} of shape {array.shape}")
    if array.size and not 0 <= array.min() <= array.max() < MAX_CLASSES:
        wrong = array.min() if array.min() < 0 else array.max()
        raise InputError(
            f"labels must be class numbers from 0, got {wrong}; renumber the classes, there can be {MAX_CLASSES:,}"
        )
    return _tensor(array.astype(np.int64, copy=False))


def _as_groups(groups: Any) -> NDArray[np.int64]:
    array = np.asarray(groups)
    numbers = array if array.dtype.kind in "iu" else np.unique(array, return_inverse=True)[1]
    return numbers.astype(np.int64)


def _tensor(array: NDArray[Any]) -> Tensor:
    """A tensor that shares the array's memory where torch can: contiguous and writable."""
    contiguous = np.ascontiguousarray(array)
    return torch.from_numpy(contiguous if contiguous.flags.writeable else contiguous.copy())


def channel_stats(inputs: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of uint8 inputs, exact, in units of [0, 1].

    Args:
        inputs: uint8, shape (N, C, ...). A channel of one colour gets a standard deviation of 1/255 instead of 0.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in inputs.unbind(1):  # each (N, ...)
        counts = torch.bincount(channel.reshape(-1), minlength=256)  # (256,)
        weights = counts.double() / counts.sum()
        mean = (weights * levels).sum()
        variance = (weights * (levels - mean) ** 2).sum()
        means.append(mean.item())
        stds.append(max(variance.sqrt().item(), 1 / 255))
    return means, stds


def held_out(strata: NDArray[np.int64], fraction: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw a test set: the same fraction of every stratum, rounded down, so none is left without training rows.

    Args:
        strata: Stratum of each row (its writer or its class), shape (N,).
        fraction: In (0, 1).
        rng: Source of the draw.

    Returns:
        True at the test rows, shape (N,).
    """
    _, stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)  # (N,), (S,)
    shuffled = rng.permutation(len(strata))
    by_stratum = shuffled[np.argsort(stratum[shuffled], kind="stable")]  # (N,)
    rank = np.arange(len(strata)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # (N,)
    is_test = np.empty(len(strata), dtype=bool)
    is_test[by_stratum] = rank < np.repeat(np.floor(sizes * fraction), sizes)
    return is_test
