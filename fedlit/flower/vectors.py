"""Converts tensors to blobs of a frame and back, without changing a bit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from fedlit.flower.frame import SIZE_OF, Blob, WireError

#: Blob types by tensor type. No other types occur in a network's flat state.
NAME_OF = {torch.float32: "<f4", torch.float64: "<f8", torch.int64: "<i8", torch.bool: "|b1"}


def blob_of(tensor: Tensor) -> Blob:
    """A vector (n,) as bytes."""
    name = NAME_OF[tensor.dtype]
    return Blob(name, tensor.detach().cpu().contiguous().numpy().astype(name, copy=False).tobytes())


def numbers(values: Iterable[float]) -> Blob:
    """Numbers as float64."""
    return Blob("<f8", np.array([*values], "<f8").tobytes())


def counts(values: Iterable[int]) -> Blob:
    """Whole numbers as int64."""
    return Blob("<i8", np.array([*values], "<i8").tobytes())


def tensor_of(name: str, blob: Blob, like: Tensor) -> Tensor:
    """The vector in a blob, with the type, length and device of ``like``.

    Raises:
        WireError: If the blob, which messages call ``name``, has another type or length, or invalid numbers.
    """
    if blob.dtype != NAME_OF[like.dtype]:
        raise WireError(f"{name} is of type {blob.dtype}, not {NAME_OF[like.dtype]}")
    if len(blob) != len(like):
        raise WireError(f"{name} has {len(blob):,} numbers, not {len(like):,}")
    if blob.dtype == "|b1" and any(byte > 1 for byte in bytes(blob.data)):
        raise WireError(f"{name} has bytes that are neither true nor false")
    array = np.frombuffer(blob.data, blob.dtype).astype(blob.dtype.replace("<", "="))  # a writable copy
    return torch.from_numpy(array).to(like.device)


def list_of(blob: Blob) -> list[float]:
    """The numbers of a blob of whole or floating-point numbers."""
    assert SIZE_OF[blob.dtype] > 1
    return np.frombuffer(blob.data, blob.dtype).tolist()  # type: ignore[no-any-return]
