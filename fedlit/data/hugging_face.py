"""Data sets of Hugging Face."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

from torch.utils.data import Dataset

from fedlit.core.errors import InputError
from fedlit.data.samples import materialise
from fedlit.data.tensors import InMemory, Source


class Table(Protocol):
    """The methods of ``datasets.Dataset`` that fedlit uses, besides its ``column_names`` and ``features``."""

    def __len__(self) -> int:
        """The number of rows."""

    def __getitem__(self, key: Any) -> Any:
        """A row by its number."""

    def select_columns(self, column_names: Any) -> Any:
        """The data set with only these columns."""


#: A data set, its splits by name, or a function that returns either.
Given = Callable[[], Any] | Table | Mapping[str, Table]


class HuggingFace(InMemory):
    """A data set of Hugging Face's ``datasets``, given or saved to disk; read once and kept in memory.

    In Python ``HuggingFace(dataset)``; in YAML with ``path``, a folder that ``Dataset.save_to_disk`` or
    ``DatasetDict.save_to_disk`` wrote, or with a function of your own that returns one. fedlit itself does not need
    ``datasets``, and downloads nothing.

    Args:
        train: A ``Dataset``, a ``DatasetDict`` with the split ``train`` and perhaps ``test``, or a function that
            returns one.
        path: Instead of ``train``, the folder of a data set that was saved to disk.
        test: The test set, like ``train``; None takes the split ``test`` of a ``DatasetDict``, or holds out
            ``test_fraction``.
        inputs: The column of the inputs: images, or lists of numbers of one length; None is the only column of images.
        labels: The column of the labels; None is the only column of type ``ClassLabel``.
        groups: The column of the examples' owners (writers, users), for ``fedlit.data.ByGroup``; None is no groups.
        **kwargs: The arguments of `InMemory`.

    Raises:
        InputError: If the columns cannot be used, or the test set numbers its classes otherwise.
    """

    def __init__(
        self,
        train: Given | None = None,
        path: str | None = None,
        test: Given | None = None,
        inputs: str | None = None,
        labels: str | None = None,
        groups: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (train is None) == (path is None):
            raise InputError("HuggingFace needs either train, a data set, or path, the folder of a saved one; give one")
        if test is not None and self.test_fraction is not None:
            raise InputError("test_fraction draws a test set, but test gives one; leave one of them out")
        self._train, self._test, self.path = train, test, path
        self._columns = inputs, labels, groups

    def read(self) -> Source:
        """See `InMemory.read`."""
        train, test = self._splits()
        rows, held_out = _Rows(train, *self._columns), None if test is None else _Rows(test, *self._columns)
        self.refuse_other_classes(rows.class_names, held_out and held_out.class_names)
        tested = None if held_out is None else materialise(held_out, self.images)
        return Source(materialise(rows, self.images), tested, rows.class_names)

    def _splits(self) -> tuple[Any, Any]:
        """The training and the test set; the latter is None if it has to be drawn."""
        found = _loaded(self.path) if self.path else _made(self._train)
        test = None if self._test is None else _made(self._test)
        if not isinstance(found, Mapping):
            return found, test
        if "train" not in found:
            raise InputError(
                f"the data set has no split named train, only {', '.join(found)}; give one of these splits itself"
            )
        if test is None and self.test_fraction is None:
            test = found.get("test")
        if unused := [name for name, split in found.items() if split is not found["train"] and split is not test]:
            self.tell(f"splits of the data set that are not used: {', '.join(unused)}")
        return found["train"], test


class _Rows(Dataset[Any]):
    """The columns of a data set as samples (input, label) or (input, label, group)."""

    def __init__(self, dataset: Any, inputs: str | None, labels: str | None, groups: str | None) -> None:
        if not (hasattr(dataset, "column_names") and hasattr(dataset, "__len__")):
            raise InputError(
                f"the data set must be a Dataset of Hugging Face with a length, got {type(dataset).__name__}; convert "
                "a streamed one, for example by Dataset.from_generator"
            )
        features = dataset.features
        kinds = {name: type(feature).__name__ for name, feature in features.items()}
        input_column = inputs or _only(kinds, "Image", "inputs")
        label_column = labels or _only(kinds, "ClassLabel", "labels")
        self._columns = [input_column, label_column, *([groups] if groups else [])]
        if missing := [name for name in self._columns if name not in kinds]:
            raise InputError(f"the data set has no column {missing[0]}, only {', '.join(kinds)}; give one of them")
        self._dataset = dataset.select_columns(list(dict.fromkeys(self._columns)))
        self.class_names: Sequence[str] | None = getattr(features[label_column], "names", None)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        row = self._dataset[index]
        return tuple(row[name] for name in self._columns)


def _only(kinds: Mapping[str, str], kind: str, argument: str) -> str:
    """The only column of a type.

    Raises:
        InputError: If there is not exactly one.
    """
    found = [name for name, each in kinds.items() if each == kind]
    if len(found) != 1:
        told = ", ".join(f"{name} ({each})" for name, each in kinds.items())
        raise InputError(f"{len(found)} columns are of type {kind}, among {told}; give one as data.{argument}")
    return found[0]


def _made(dataset: Given | None) -> Any:
    return dataset() if callable(dataset) else dataset


def _loaded(path: str) -> Any:
    try:
        return import_module("datasets").load_from_disk(path)
    except OSError as error:
        raise InputError(f"{path} is not a saved data set: {error}; write it with save_to_disk") from error
