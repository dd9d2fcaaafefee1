"""Reads the samples of a dataset once, into arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset

from fedlit.core.errors import InputError
from fedlit.core.memory import check_fits_memory
from fedlit.core.messages import one_line
from fedlit.data.convert import all_finite, as_array, as_examples
from fedlit.data.examples import Examples

#: Copies of the data in memory while the training and the test set are taken from it.
COPIES = 2
#: The remedy for data that are too large.
FEWER = "give fewer examples or smaller ones, keep images as uint8"


def make_dataset(dataset: Callable[[], Dataset[Any]] | Dataset[Any]) -> Dataset[Any]:
    """The dataset itself, or the result of calling a class or function that makes one.

    Raises:
        InputError: If the dataset has no length or no indexing.
    """
    is_dataset = hasattr(type(dataset), "__getitem__")
    found: Any = dataset() if callable(dataset) and not is_dataset else dataset
    kind = type(found)
    if isinstance(found, IterableDataset) or not (hasattr(kind, "__getitem__") and hasattr(kind, "__len__")):
        raise InputError(
            f"the dataset must have a length and indexing, got {kind.__name__}; give list(dataset) for an iterable "
            "dataset, and the dataset of a DataLoader"
        )
    return found  # type: ignore[no-any-return]


def classes_of(dataset: Dataset[Any]) -> list[Any]:
    """The attribute ``classes`` of a dataset, of that of a `Subset`, or of each part of a `ConcatDataset`.

    None stands for a dataset without this attribute.
    """
    while type(dataset) is Subset:
        dataset = dataset.dataset
    if type(dataset) is ConcatDataset:
        return [names for part in dataset.datasets for names in classes_of(part)]
    return [getattr(dataset, "classes", None)]


def materialise(dataset: Dataset[Any], images: bool | None) -> Examples:
    """Every sample of a map-style dataset, in order.

    Raises:
        InputError: If the samples cannot be used, or need more memory than is free.
    """
    name = type(dataset).__name__
    try:
        number = len(dataset)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the length of {name} cannot be used ({error}); let __len__ return the number of samples"
        ) from error
    if not number:
        raise InputError(f"{name} is empty; give it samples")
    first = _sample(dataset, 0, images)
    check_fits_memory(f"{name} of {number:,} samples", COPIES * number * first[0].nbytes, FEWER)
    samples = [first, *(_sample(dataset, i, images) for i in range(1, number))]
    if len({len(sample) for sample in samples}) > 1:
        raise InputError(f"some samples of {name} have a group and others have none; give a group to all, or to none")
    inputs, *rest = zip(*samples, strict=True)
    if len(shapes := {x.shape for x in inputs}) > 1:
        told = " and ".join(map(str, sorted(shapes)[:2]))
        raise InputError(
            f"samples of {name} differ in shape, {told} for example; add a Resize transform, or convert('RGB') to all"
        )
    if len({x.dtype == np.uint8 for x in inputs}) > 1:
        raise InputError(f"some inputs of {name} are uint8 pixels and others are not; give all of them one type")
    return all_finite(as_examples(np.stack(inputs), *rest, images=images))


def _sample(dataset: Dataset[Any], i: int, images: bool | None) -> tuple[Any, ...]:
    """A sample with its input as an array; an image has the shape (H, W) or (C, H, W)."""
    name = type(dataset).__name__
    try:
        sample = dataset[i]
    except Exception as error:
        said = one_line(f"{type(error).__name__}: {error}", 200)
        raise InputError(
            f"sample {i} of {name} cannot be read ({said}); correct it, or leave it out by torch.utils.data.Subset"
        ) from error
    if not (isinstance(sample, tuple | list) and len(sample) in (2, 3)):
        got = f"{len(sample)} parts" if isinstance(sample, tuple | list) else type(sample).__name__
        raise InputError(
            f"samples of {name} must be (input, label) or (input, label, group), got {got} at {i}; for arrays use "
            "fedlit.data.Tensors"
        )
    given, *rest = sample
    array = as_array(f"the input of sample {i} of {name}", given)
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"the input of sample {i} of {name} must be an image, an array or numbers, got {type(given).__name__}; "
            "select or convert it in a transform"
        )
    is_image = isinstance(given, Image.Image) and images is not False
    return (_pixels(given, array, i, name, images) if is_image else array, *rest)


def _pixels(image: Image.Image, array: NDArray[Any], i: int, name: str, images: bool | None) -> NDArray[Any]:
    """Pixels (H, W) or (H, W, C) as (H, W) or (C, H, W).

    Raises:
        InputError: If the image's numbers are no levels of 8 bits.
    """
    if image.mode.startswith("P"):
        raise InputError(
            f"sample {i} of {name} is an image of mode {image.mode}, whose numbers are indices into a palette; add the "
            "transform convert('RGB')"
        )
    if array.dtype != np.uint8 and images is None:
        remedy = "convert('L')" if image.mode == "1" else "that divides them by their maximum and returns (1, H, W)"
        raise InputError(
            f"sample {i} of {name} is an image of mode {image.mode}, whose numbers are {array.dtype}, not pixels of 8 "
            f"bits; add a transform {remedy}"
        )
    return array if array.ndim == 2 else np.moveaxis(array, 2, 0)
