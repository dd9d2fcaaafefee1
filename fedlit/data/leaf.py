"""Data sets of LEAF, read from its JSON files; every user is a client."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedlit.core.errors import InputError
from fedlit.core.files import require_regular
from fedlit.core.memory import check_fits_memory
from fedlit.core.messages import one_line
from fedlit.data.convert import all_finite, as_examples
from fedlit.data.examples import Examples
from fedlit.data.partition import Partitioner
from fedlit.data.partitioners import ByGroup
from fedlit.data.tensors import InMemory, Source

Array = NDArray[Any]
#: Bytes of memory per byte of JSON while a file is read: a number such as ``0.5, `` takes 32.
JSON_GROWTH = 8


class Leaf(InMemory):
    """A data set of LEAF (Caldas et al. 2018, arXiv:1812.01097), whose users are the clients.

    It reads the JSON files that LEAF's ``preprocess.sh`` writes, each an object of ``users``, ``num_samples`` and
    ``user_data``, which has lists ``x`` and ``y`` for each user. Labels are class numbers, or texts that each name a
    class. Clients are the users in the order of their names.

    Args:
        path: A folder with the folders ``train`` and ``test`` of such files, or with the files themselves; in the
            latter case ``test_fraction`` of each user's examples are held out.
        shape: Shape of an example if the files store it flat: [1, 28, 28] for FEMNIST's images. None is the files' own.
        text: Whether ``x`` are texts of equal length, as in Shakespeare: every character is a token, numbered in the
            order of the characters that occur. Otherwise texts are refused, as they may be names of files.
        partition: As for `FederatedData`; None is ``fedlit.data.ByGroup``, one client for each user.
        **kwargs: The arguments of `InMemory`; with ``test_fraction``, LEAF's own split is not kept.

    Raises:
        InputError: If the files are not LEAF's, or need more memory than there is.
    """

    def __init__(
        self,
        path: str,
        shape: list[int] | None = None,
        text: bool = False,
        partition: Partitioner | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(partition=partition or ByGroup(), **kwargs)
        self.path = path
        self.shape = shape
        self.text = text

    def read(self) -> Source:
        """See `InMemory.read`."""
        folder = Path(self.path).expanduser()
        has_parts = (folder / "train").is_dir()
        train = _read_files(_files(folder / "train" if has_parts else folder))
        test = _read_files(_files(folder / "test")) if has_parts and (folder / "test").is_dir() else None
        if test is not None and self.test_fraction is not None:
            train, test = _joined([train, test]), None
        parts = [part for part in (train, test) if part is not None]
        users = np.unique(np.concatenate([part.users for part in parts]))
        labels = np.concatenate([part.y for part in parts])
        names = [str(name) for name in np.unique(labels)] if labels.dtype.kind == "U" else None
        examples = [self._examples(part, users, names, self._vocabulary(parts)) for part in parts]
        if len(examples) == 2:
            self.tell_of_untrained_groups(*examples)
        return Source(examples[0], examples[1] if len(examples) == 2 else None, names)

    def _vocabulary(self, parts: Sequence[_Part]) -> Array | None:
        """The characters that occur in texts, in order, (V,); None if inputs are numbers."""
        if all(part.x.dtype.kind != "U" for part in parts):
            return None
        if not self.text:
            raise InputError(
                f"{self.path}: x is text, such as {str(parts[0].x.flat[0])[:40]!r}; set data.text to true to read each "
                "character as a token, or, if these are names of image files, use an .npz or a torchvision dataset"
            )
        return np.unique(np.concatenate([np.unique(_characters(part.x)) for part in parts]))

    def _examples(self, part: _Part, users: Array, names: Sequence[str] | None, vocabulary: Array | None) -> Examples:
        x = part.x if vocabulary is None else np.searchsorted(vocabulary, _characters(part.x))
        if self.shape is not None:
            try:
                x = x.reshape(len(x), *self.shape)
            except ValueError as error:
                raise InputError(
                    f"{self.path}: an example of shape {x.shape[1:]} cannot have the shape {self.shape}; correct shape"
                ) from error
        y = part.y if names is None else np.searchsorted(names, part.y)
        return all_finite(as_examples(x, y, np.searchsorted(users, part.users), images=self.images))


class _Part(NamedTuple):
    """Examples of some files: inputs (N, ...) or texts (N,), labels (N,) and the user of each (N,)."""

    x: Array
    y: Array
    users: Array


def _files(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not found:
        raise InputError(
            f"there are no .json files in {folder}; give the folder in which LEAF's preprocess.sh wrote train and test"
        )
    return found


def _read_files(files: Sequence[Path]) -> _Part:
    sizes = [path.stat().st_size for path in files]
    check_fits_memory(
        f"the JSON of {files[0].parent}", sum(sizes) + JSON_GROWTH * max(sizes),
        "use fewer users, or let LEAF write smaller files",
    )  # fmt: skip
    return _joined([part for path in files for part in _users_of(path)])


def _joined(parts: Iterable[_Part]) -> _Part:
    try:
        return _Part(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    except ValueError as error:
        raise InputError(
            f"users' examples differ in shape: {one_line(str(error), 200)}; give all the same shape"
        ) from error


def _users_of(path: Path) -> Iterator[_Part]:
    """The examples of each user in a file.

    Raises:
        InputError: If it is not a file of LEAF.
    """
    try:
        content = json.loads(require_regular(path).read_text(encoding="utf-8"))
        times = Counter(content["users"])
        if wrong := [user for user in (*times, *content["user_data"]) if times[user] != 1]:
            raise ValueError(f"user {wrong[0]} of user_data is {times[wrong[0]]} times in users")
        for user, number in zip(content["users"], content["num_samples"], strict=True):
            x, y = (_array(content["user_data"][user][name]) for name in ("x", "y"))
            if not len(x) == len(y) == number:
                raise ValueError(f"user {user} has {len(x)} x, {len(y)} y and num_samples {number}")
            if number:
                yield _Part(x, y, np.full(number, str(user)))
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        said = one_line(f"{type(error).__name__}: {error}", 200)
        raise InputError(
            f"{path} is not a file of LEAF ({said}); give files with an object of users, num_samples and user_data"
        ) from error


def _array(values: Sequence[Any]) -> Array:
    """Convert a list to an array of integers, of float32, or of texts."""
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _characters(texts: Array) -> Array:
    """Texts (N,) of one length T as characters (N, T).

    Raises:
        InputError: If they have different lengths or are not texts.
    """
    if texts.ndim != 1 or texts.dtype.kind != "U" or len(set(map(len, texts.tolist()))) != 1:
        raise InputError(
            "x must be numbers, or texts of one length, as in LEAF's Shakespeare; cut or pad texts to one length"
        )
    return texts.view("U1").reshape(len(texts), -1)
