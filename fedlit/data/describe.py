"""Describes a data set in a few lines, for the user to check how it was read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from fedlit.core.bins import bin_width
from fedlit.data.examples import Examples

#: The most classes without examples that are listed by name.
MOST_NAMED = 8


def kind_of(inputs: Tensor) -> str:
    """Type and meaning of inputs (N, ...), and the range of tokens."""
    if inputs.dtype == torch.uint8:
        return "uint8 pixels"
    if inputs.dtype == torch.int64:
        span = f" from {int(inputs.min())} to {int(inputs.max())}" if inputs.numel() else ""
        return f"int64 tokens{span}"
    return "float32 numbers"


def describe(
    train: Examples,
    test: Examples,
    class_names: Sequence[str],
    mean: float | Sequence[float],
    std: float | Sequence[float],
    own: str | None = None,
) -> Iterator[str]:
    """The lines that describe a data set: sizes, shape, kind and normalisation of its inputs, and its classes.

    Args:
        train: The whole training set.
        test: The test set.
        class_names: One name per class, (C,).
        mean: Mean that pixels are normalised by, one number or one per channel, in units of [0, 1].
        std: Standard deviation, as ``mean``.
        own: Name of the data module's own ``transform``, which replaces the normalisation; None if it has none.
    """
    is_pixels = train.inputs.dtype == torch.uint8
    normalised = f"normalised by mean {_short(mean)} and std {_short(std)}" if is_pixels else "not normalised"
    treated = f"converted by {own}" if own else normalised
    shape = "x".join(map(str, train.inputs.shape[1:]))
    yield (
        f"data: {len(train):,} training and {len(test):,} test examples of {len(class_names):,} classes; "
        f"inputs are {shape} {kind_of(train.inputs)}, {treated}"
    )
    if train.inputs.shape == test.inputs.shape and torch.equal(train.inputs, test.inputs):
        yield "data: the test set is the training set, so its scores say nothing about new data"
    if (width := bin_width(len(class_names))) > 1:
        yield f"data: pictures show the {len(class_names):,} classes in bins of {width:,} consecutive classes"
    counts = torch.bincount(train.targets, minlength=len(class_names)).tolist()
    empty = [name for name, count in zip(class_names, counts, strict=True) if not count]
    if empty:
        more = f" and {len(empty) - MOST_NAMED:,} more" if len(empty) > MOST_NAMED else ""
        first = int(train.targets.min())
        start = f"; labels start at {first}: if that is a mistake, renumber them from 0" if counts[0] == 0 else ""
        named = ", ".join(empty[:MOST_NAMED])
        yield f"data: {len(empty):,} of {len(class_names):,} classes have no training example ({named}{more}){start}"


def _short(value: float | Sequence[float]) -> str:
    """A number, or the first few of several, with three digits."""
    numbers = np.atleast_1d(value).tolist()
    dots = ", ..." if len(numbers) > MOST_NAMED else ""
    return ", ".join(f"{number:.3g}" for number in numbers[:MOST_NAMED]) + dots
