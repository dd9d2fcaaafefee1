"""EMNIST from the official files, with images upright and labels from 0."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torchvision
from torch import Tensor
from torchvision.datasets.mnist import read_image_file, read_label_file

from fedlit.core.errors import InputError
from fedlit.core.files import require_regular
from fedlit.data.examples import Examples
from fedlit.data.module import FederatedData

Split = Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"]

SIDE = 28  # pixels


class EMNIST(FederatedData):
    """Handwritten digits and letters, 28 x 28 grey pixels, in six splits.

    Source: Cohen et al. 2017, "EMNIST: an extension of MNIST to handwritten letters" (arXiv:1702.05373).

    ========  =======  ============  ===========  ======================================
    split     classes  train images  test images
    ========  =======  ============  ===========  ======================================
    byclass   62       697,932       116,323      0-9, A-Z, a-z, unbalanced
    bymerge   47       697,932       116,323      15 lower-case letters merged into upper
    balanced  47       112,800       18,800       classes of bymerge, balanced
    letters   26       124,800       20,800       upper and lower case merged
    digits    10       240,000       40,000       balanced
    mnist     10       60,000        10,000       new images, sizes of MNIST
    ========  =======  ============  ===========  ======================================

    The official images are transposed and ``letters`` counts from 1; here images are upright and labels start at 0.
    Memory holds them once, as uint8 of shape (N, 1, 28, 28).

    Args:
        root: Folder that contains ``EMNIST/raw``, torchvision's layout. None is the environment variable
            ``FEDLIT_DATA``, or without it the per-user cache (``$XDG_CACHE_HOME/fedlit``, ``~/.cache/fedlit``).
        split: One of byclass, bymerge, balanced, letters, digits, mnist.
        download: Whether to download the archive (all splits, about 560 MB, MD5 checked) if files are missing.
        **kwargs: The arguments of `FederatedData`.

    Raises:
        InputError: If the split is unknown, or its files are missing, truncated or corrupt; the message names the file.
    """

    # The usual values for EMNIST's byclass; those of balanced and letters differ by less than 0.002.
    mean, std = 0.1736, 0.3317

    def __init__(
        self,
        root: str | None = None,
        split: Split = "balanced",
        download: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if split not in get_args(Split):
            raise InputError(f"split must be one of {', '.join(get_args(Split))}, got {split}; balanced is the default")
        self.root = default_root() if root is None else Path(root).expanduser()
        self.split = split
        self.download = download

    @property
    def class_names(self) -> list[str]:
        """Characters, in the order of the class numbers."""
        names: list[str] = torchvision.datasets.EMNIST.classes_split_dict[self.split]
        return names[self._first_label :]

    @property
    def _first_label(self) -> int:
        """Number of the first class in the official files; torchvision names the unused 0 of ``letters`` "N/A"."""
        return 1 if self.split == "letters" else 0

    @property
    def _folder(self) -> Path:
        return self.root / "EMNIST" / "raw"

    def _files(self, part: str) -> tuple[Path, Path]:
        prefix = f"emnist-{self.split}-{part}"
        return self._folder / f"{prefix}-images-idx3-ubyte", self._folder / f"{prefix}-labels-idx1-ubyte"

    def _missing(self, *parts: str) -> list[Path]:
        return [path for part in parts for path in self._files(part) if not path.is_file()]

    def prepare_data(self) -> None:
        """Download missing files. Lightning calls this in one process per machine, before any ``setup``."""
        if not self.download:
            return
        try:
            for part in ("train", "test"):
                if self._missing(part):
                    torchvision.datasets.EMNIST(self.root, self.split, train=part == "train", download=True)
        except (OSError, RuntimeError) as error:
            raise self._missing_error(f"could not be downloaded ({error})") from error

    def load(self) -> tuple[Examples, Examples]:
        """See `FederatedData.load`."""
        if self._missing("train", "test"):
            raise self._missing_error("download is off" if not self.download else "prepare_data() was not called")
        try:
            return self._read("train"), self._read("test")
        except OSError as error:
            raise InputError(f"EMNIST cannot be read: {error}; make its files readable") from error

    def _read(self, part: str) -> Examples:
        image_path, label_path = self._files(part)
        (num_images, *size), (num_labels,) = _idx_shape(image_path, 3), _idx_shape(label_path, 1)
        if size != [SIDE, SIDE]:
            raise _corrupt(image_path, f"images of {size[0]} x {size[1]} pixels, not {SIDE} x {SIDE}")
        if num_images != num_labels:
            raise _corrupt(label_path, f"{num_labels} labels for {num_images} images in {image_path.name}")
        if not num_images:
            raise _corrupt(image_path, "it holds no images")
        targets: Tensor = read_label_file(str(label_path)) - self._first_label  # (N,)
        if not 0 <= targets.min() <= targets.max() < self.num_classes:
            found = targets + self._first_label
            first, last = self._first_label, self._first_label + self.num_classes - 1
            raise _corrupt(label_path, f"labels {found.min()}..{found.max()}, not in {first}..{last}")
        images: Tensor = read_image_file(str(image_path))  # (N, 28, 28), transposed
        return Examples(images.transpose(1, 2).contiguous().unsqueeze(1), targets)

    def _missing_error(self, reason: str) -> InputError:
        names = ", ".join(path.name for path in self._missing("train", "test"))
        return InputError(
            f"EMNIST {self.split}: {self._folder} lacks {names}, and {reason}; put them there, or use "
            "--data fedlit.data.MNIST5k, which needs no download"
        )


def default_root() -> Path:
    """``$FEDLIT_DATA``, else the per-user cache folder."""
    folder = os.environ.get("FEDLIT_DATA")
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(folder or f"{cache}/fedlit").expanduser()


def _idx_shape(path: Path, num_dims: int) -> list[int]:
    """Shape in the header of an idx file of bytes, checked against the file's length.

    The format (LeCun, "The MNIST database"): the magic number 0x0800 + number of dimensions, then each dimension, all
    big-endian int32, then the bytes.
    """
    header_bytes = 4 * (1 + num_dims)
    with require_regular(path).open("rb") as file:
        header = np.frombuffer(file.read(header_bytes), dtype=np.uint8)
    if len(header) < header_bytes:
        raise _corrupt(path, f"{len(header)} bytes, shorter than a header")
    magic, *shape = (int(number) for number in header.view(">u4"))
    if magic != 0x0800 + num_dims:
        raise _corrupt(path, f"magic number {magic}, not {0x0800 + num_dims}")
    promised, length = header_bytes + int(np.prod(shape, dtype=object)), path.stat().st_size
    if length != promised:
        raise _corrupt(path, f"{length} bytes, but the header requires {promised}")
    return shape


def _corrupt(path: Path, reason: str) -> InputError:
    return InputError(f"{path} is truncated or corrupt: {reason}; delete it and run again to download it anew")
