"""Converts users' arrays into tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedlit.core.errors import InputError
from fedlit.core.messages import one_line
from fedlit.data.examples import Examples

#: Larger labels are taken for identifiers, not classes, as a network has one output for each class.
MAX_CLASSES = 1_000_000


def as_examples(inputs: Any, targets: Any, groups: Any = None, *, images: bool | None = None) -> Examples:
    """Check and convert arrays, tensors or lists.

    Args:
        inputs: See `as_inputs`.
        targets: Class numbers from 0 of any integer type, shape (N,).
        groups: As for `Examples`, or None.
        images: See `as_inputs`.

    Raises:
        InputError: If they cannot be used as they are.
    """
    kept = None if groups is None else as_array("groups", groups)
    return Examples(as_inputs(inputs, images), _as_targets(targets), kept)


def as_array(name: str, values: Any) -> NDArray[Any]:
    """Convert an array, a tensor (on any device, with or without gradient), an image, or lists to an array.

    Raises:
        InputError: If that is impossible, for example for lists of different lengths, or if values are masked.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values  # which NumPy lacks
    if np.ma.is_masked(values):
        raise InputError(f"{name} must not have masked values, as the mask would be ignored; fill them in")
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{name} cannot be converted to an array ({one_line(str(error), 200)}); give numbers of one shape, without "
            "gaps"
        ) from error


def as_inputs(inputs: Any, images: bool | None = None) -> Tensor:
    """Inputs as a tensor (N, ...) of uint8 pixels, of int64 tokens or of float32 numbers.

    - uint8 means pixels, the only type that is ever normalised; other integers are tokens and become int64; bool and
      floats become float32. Values do not change.
    - Images (N, H, W) become (N, 1, H, W), and (N, H, W, C) with C of 1 or 3 become (N, C, H, W), unless the second
      dimension is 1 or 3 as well. Other inputs keep their shape.

    Args:
        inputs: The array, (N, ...) of at least two dimensions.
        images: Whether inputs are images; None means only if they are uint8. With False, uint8 becomes tokens.

    Raises:
        InputError: If they are not numbers, are integers beyond int64, or images of an integer type other than uint8.
    """
    array = as_array("inputs", inputs)
    if array.ndim < 2:
        raise InputError(f"inputs must have shape (N, H, W) or (N, C, ...), got {array.shape}; reshape them")
    is_image = array.dtype == np.uint8 if images is None else images
    if array.dtype.kind in "fb":
        with np.errstate(over="ignore"):
            array = array.astype(np.float32, copy=False)
    elif array.dtype.kind not in "iu":
        raise InputError(f"inputs must be numbers, got {array.dtype}; convert them to uint8, int64 or float32")
    elif is_image and array.dtype != np.uint8:
        raise InputError(
            f"images must be uint8 or floats, got {array.dtype}; convert 0..255 with astype(numpy.uint8), "
            "and divide others by their maximum"
        )
    elif not is_image:
        array = _as_tokens(array)
    return _tensor(_channels_first(array) if is_image else array)


def _as_tokens(array: NDArray[Any]) -> NDArray[np.int64]:
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise InputError(f"integer inputs must fit int64, got {array.max()}; give smaller numbers, or floats")
    return array.astype(np.int64, copy=False)


def _channels_first(array: NDArray[Any]) -> NDArray[Any]:
    """Images (N, H, W) or (N, H, W, C) as (N, C, H, W); other shapes do not change."""
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[3] in (1, 3) and array.shape[1] not in (1, 3):
        return np.moveaxis(array, 3, 1)
    return array


def all_finite(examples: Examples) -> Examples:
    """Return the examples if their inputs pass ``check_finite``."""
    check_finite(examples.inputs, "inputs")
    return examples


def check_finite(inputs: Tensor, name: str) -> None:
    """Refuse inputs (N, ...) with NaN, or with a number that is infinite in float32.

    Raises:
        InputError: Naming the first such row.
    """
    if inputs.is_floating_point() and not bool(inputs.isfinite().all()):
        row = int(inputs.flatten(1).isfinite().all(1).int().argmin())
        value = float(inputs[row][~inputs[row].isfinite()][0])
        raise InputError(
            f"{name} must be finite numbers in float32, got {value} in row {row}; correct or leave out the row"
        )


def _remedy_of_labels(array: NDArray[Any]) -> str:
    """The remedy for labels that are not class numbers (N,), by what they may be instead."""
    if array.ndim == 2 and array.shape[1] == 1:
        return "use reshape(-1) for a column"
    if (
        array.ndim == 2
        and array.dtype.kind in "iufb"
        and (array.sum(1) == 1).all()
        and ((array != 0).sum(1) == 1).all()
    ):
        return "use argmax(1) for one-hot rows"
    if array.ndim > 1:
        return "several labels of an example, masks and next tokens of whole sequences are not supported"
    names = "use numpy.unique(labels, return_inverse=True)[1] to number the names of classes"
    return f"{names}; targets of a regression are not supported" if array.dtype.kind == "f" else names


def _as_targets(targets: Any) -> Tensor:
    array = as_array("labels", targets)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise InputError(
            f"labels must be one class number for each example, integers of shape (N,), got {array.dtype} of shape "
            f"{array.shape}; {_remedy_of_labels(array)}"
        )
    if array.size and not 0 <= array.min() <= array.max() < MAX_CLASSES:
        wrong = array.min() if array.min() < 0 else array.max()
        raise InputError(
            f"labels must be class numbers from 0 to {MAX_CLASSES - 1:,}, got {wrong}; renumber the classes"
        )
    return _tensor(array.astype(np.int64, copy=False))


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
