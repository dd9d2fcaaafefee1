"""Bring your own data: arrays, an .npz file, or any torchvision-style dataset."""

from __future__ import annotations

import struct
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import Any, ClassVar
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from fedlit.core.errors import InputError
from fedlit.core.files import require_regular
from fedlit.core.given import is_same
from fedlit.core.memory import check_fits_memory
from fedlit.core.messages import one_line
from fedlit.core.seeding import address, isolated_rng, resolve_seed, rng
from fedlit.data.convert import all_finite, as_examples, channel_stats
from fedlit.data.examples import Examples
from fedlit.data.module import FederatedData
from fedlit.data.samples import COPIES, FEWER, classes_of, make_dataset, materialise
from fedlit.data.splitting import held_out

DEFAULT_TEST_FRACTION = 0.2

#: Names of an ``.npz`` file's arrays; those of one tuple mean the same.
INPUTS, LABELS, GROUPS = ("images", "inputs"), ("labels", "targets"), ("writers", "groups")
ALONE = ("n_train", "class_names")
KNOWN = (*INPUTS, *LABELS, *GROUPS, *ALONE)

#: Errors of NumPy and zipfile for a file that is broken, or needs more memory than there is.
NPZ_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    BadZipFile,
    EOFError,
    KeyError,
    MemoryError,
    RuntimeError,  # an encrypted member, or an unknown one (NotImplementedError)
    SyntaxError,  # in the header, which is a Python literal
    TokenError,  # the same
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, eq=False)
class Source:
    """Data that was read: a training set, a test set (None if it has to be drawn), and class names if there are any."""

    train: Examples
    test: Examples | None = None
    class_names: Sequence[str] | None = None


def _test_fraction(value: float | None) -> float | None:
    if value is not None and not 0 < value < 1:
        raise InputError(f"test_fraction must be between 0 and 1, got {value}; 0.2 holds out a fifth")
    return value


def _mean(value: Any) -> Any:
    if value is not None and not (np.abs(np.asarray(value)) <= 1e6).all():
        raise InputError(f"mean must be from -1e6 to 1e6, got {value}; leave it out to measure it")
    return value


def _std(value: Any) -> Any:
    if value is not None and not (np.abs(np.log10(np.maximum(value, 1e-9))) <= 6).all():
        raise InputError(f"std must be > 0, got {value}; leave it out to measure it")
    return value


class InMemory(FederatedData):
    """Common base of data sets in memory: draws a test set if necessary, names classes, measures mean and std.

    Args:
        class_names: Names of the classes in the order of their numbers; None takes the data's own names, else the
            numbers.
        mean: Mean of uint8 inputs in units of [0, 1], one number or one per channel; None measures the training set.
        std: Standard deviation, as ``mean``. Other types of inputs are never normalised, and do not accept these two.
        test_fraction: Fraction to hold out for testing, in (0, 1), drawn with ``seed`` from every group if there are
            groups, else from every class, rounded down. None keeps the data's own split, or holds out 0.2 if it has
            none.
        images: Whether the inputs are images; images (N, H, W) become (N, 1, H, W), and (N, H, W, C) with C of 1 or 3
            become (N, C, H, W), other inputs keep their shape. None is true for uint8 inputs, and for floats that an
            ``.npz`` file names ``images``. With False, uint8 becomes tokens (int64).
        **kwargs: The arguments of `FederatedData`.
    """

    _checks: ClassVar = FederatedData._checks | {
        "test_fraction": _test_fraction,
        "_given_mean": _mean,
        "_given_std": _std,
    }
    _arguments: ClassVar = FederatedData._arguments | {"mean": "_given_mean", "std": "_given_std"}

    def __init__(
        self,
        class_names: list[str] | None = None,
        mean: float | list[float] | None = None,
        std: float | list[float] | None = None,
        test_fraction: float | None = None,
        images: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.test_fraction = test_fraction
        self.images = images
        self._given_names = class_names
        self._names: list[str] | None = None
        self._channels: int | None = None
        self._given_mean, self._given_std = mean, std

    @abstractmethod
    def read(self) -> Source:
        """Read the data. Called once."""

    @cached_property
    def _source(self) -> Source:
        seed = resolve_seed(self._requested_seed)
        settings = {name: value for name, value in self._attributes().items() if not name.startswith("_")}
        self._read_with = seed, settings
        with isolated_rng(address(seed, "data"), torch.device("cpu")):
            return self.read()

    @property
    def class_names(self) -> list[str]:
        """Names of the classes; reads the data unless names were given."""
        if self._names is None:
            self._names = self._found_names() if self._given_names is None else _texts(self._given_names)
        return self._names

    @class_names.setter
    def class_names(self, names: list[str] | None) -> None:
        self._given_names, self._names = names, None

    def _found_names(self) -> list[str]:
        names = self._source.class_names
        return [str(label) for label in range(_num_labels(self._source))] if names is None else _texts(names)

    @property
    def in_channels(self) -> int:
        """Size of the inputs' second dimension; reads the data."""
        if self._channels is None:
            self._channels = int(self._source.train.inputs.shape[1])
        return self._channels

    def _forget_other_source(self) -> None:
        """Forget data that were read for their classes, if the seed or a setting is another one now."""
        self._names = self._channels = None
        if "_source" not in vars(self):
            return
        seed, settings = self._read_with
        if seed != self.seed or not all(is_same(getattr(self, name, None), value) for name, value in settings.items()):
            del self._source
            self.notes.clear()  # nothing else was told until now

    def load(self) -> tuple[Examples, Examples]:
        """See `FederatedData.load`."""
        self._forget_other_source()
        source, _ = self._source, self.in_channels
        if _num_labels(source) > self.num_classes:
            raise InputError(
                f"label {_num_labels(source) - 1} has no name among {self.num_classes} class_names; name every class"
            )
        train, test = source.train, source.test
        if test is None:
            train, test = self._hold_out(train)
        if train.inputs.dtype == torch.uint8:
            self._measure(train)
        else:
            self.mean = 0.0 if self._given_mean is None else self._given_mean
            self.std = 1.0 if self._given_std is None else self._given_std
        del self._source  # names and channels are known, and the tensors need not be in memory twice
        return train, test

    def refuse_other_classes(
        self, train: Any, test: Any, where: tuple[str, str] = ("the training set", "the test set")
    ) -> None:
        """Refuse a test set, or another part of the data, in which a class has another number than in the training set.

        Args:
            train: Names of the training set's classes in the order of their numbers; None if it has none.
            test: Those of the test set.
            where: What the two are called in the message.

        Raises:
            InputError: Naming the first such class, unless ``class_names`` say what the numbers of both sets mean.
        """
        if self._given_names is not None or train is None or test is None:
            return
        for number, (name, other) in enumerate(zip(_texts(train), _texts(test), strict=False)):
            if name != other:
                raise InputError(
                    f"label {number} is {name} in {where[0]} and {other} in {where[1]}; give both the same classes in "
                    "the same order, or class_names if the numbers mean the same in both"
                )

    def tell_of_untrained_groups(self, train: Examples, test: Examples) -> None:
        """Tell how many groups are only in the test set, if any."""
        if train.groups is None or test.groups is None:
            return
        untrained = np.setdiff1d(test.groups, train.groups)
        if len(untrained):
            self.tell(
                f"{len(untrained)} groups are only in the test rows and cannot be clients; "
                f"test_fraction={DEFAULT_TEST_FRACTION} holds out rows of every group instead"
            )

    def _hold_out(self, examples: Examples) -> tuple[Examples, Examples]:
        strata = examples.targets.numpy() if examples.groups is None else examples.groups
        fraction = DEFAULT_TEST_FRACTION if self.test_fraction is None else self.test_fraction
        is_test = held_out(strata, fraction, rng(self.seed, "test set"))
        if not is_test.any():
            each, most = "class" if examples.groups is None else "group", np.unique(strata, return_counts=True)[1].max()
            raise InputError(
                f"test_fraction {fraction} of each {each} holds out no example, as the largest {each} has {most}; give "
                "a test set, more examples, or a larger data.test_fraction"
            )
        return examples.take(np.flatnonzero(~is_test)), examples.take(np.flatnonzero(is_test))

    def _measure(self, train: Examples) -> None:
        mean, std = channel_stats(train.inputs)
        for name, given in (("mean", self._given_mean), ("std", self._given_std)):
            if isinstance(given, list) and len(given) != len(mean):
                raise InputError(
                    f"{name} has {len(given)} numbers for {len(mean)} channels; give one, or one per channel"
                )
        self.mean = mean if self._given_mean is None else self._given_mean
        self.std = std if self._given_std is None else self._given_std


class Tensors(InMemory):
    """Your own arrays, from an ``.npz`` file or given in Python.

    The file's arrays are ``images`` (or ``inputs``), ``labels`` (or ``targets``), and optionally ``writers`` (or
    ``groups``), ``n_train`` (the number of first rows that are for training; the rest is for testing) and
    ``class_names``. Inputs are uint8 pixels, (N, H, W), (N, C, H, W) or (N, H, W, 3), other integers as tokens
    (N, ...), or floats (N, ...); labels count from 0.

    With groups and ``fedlit.data.ByGroup`` every writer is a client. Writers that ``n_train`` puts only into the test
    rows are not clients; give ``test_fraction`` to hold out rows of every writer instead.

    Args:
        path: The ``.npz`` file.
        train: Instead of ``path``: (inputs, labels) or (inputs, labels, groups), arrays or tensors.
        test: The test set, like ``train``.
        **kwargs: The arguments of `InMemory`: class_names, mean, std, test_fraction, images, and those of
            `FederatedData`.

    Raises:
        InputError: If neither or both of ``path`` and ``train`` are given, or the arrays cannot be used.
    """

    def __init__(
        self,
        path: str | None = None,
        train: tuple[Any, ...] | None = None,
        test: tuple[Any, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (path is None) == (train is None):
            raise InputError("Tensors needs either path, an .npz file, or train, a tuple (inputs, labels); give one")
        if test is not None and (train is None or self.test_fraction is not None):
            raise InputError("test can only be given with train, without test_fraction; leave one of them out")
        self.path = path
        self._arrays = train, test

    def read(self) -> Source:
        """See `InMemory.read`."""
        train, test = self._arrays
        if train is not None:
            return Source(self._examples("train", train), None if test is None else self._examples("test", test))
        return self._read_file(Path(str(self.path)).expanduser())

    def _examples(self, name: str, parts: tuple[Any, ...]) -> Examples:
        if not isinstance(parts, tuple | list) or len(parts) not in (2, 3):
            got = f"{len(parts)} parts" if isinstance(parts, tuple | list) else type(parts).__name__
            raise InputError(
                f"{name} must be (inputs, labels) or (inputs, labels, groups), got {got}; for a dataset use "
                "fedlit.data.TorchDataset"
            )
        return as_examples(*parts, images=self.images)

    def load(self) -> tuple[Examples, Examples]:
        """See `FederatedData.load`; the examples are copies, as a user may change the arrays between two fits."""
        train, test = super().load()
        if self._arrays[1] is None:  # a split has copied them
            return train, test
        return train.copy(), test.copy()

    def _read_file(self, path: Path) -> Source:
        arrays = _read_npz(path)
        by_name = {names: _one_of(arrays, path, *names) for names in (INPUTS, LABELS, GROUPS)}
        for names in (INPUTS, LABELS):
            if by_name[names] is None:
                raise InputError(f"{path} has no array {' or '.join(names)}, only {', '.join(arrays)}; rename one")
        if unused := sorted(set(arrays).difference(*by_name, ALONE)):
            self.tell(f"{path}: {', '.join(unused)} not used; the names of arrays that are used are {', '.join(KNOWN)}")
        inputs = by_name[INPUTS]
        images = self.images
        if images is None and "images" in arrays and arrays["images"].dtype.kind == "f":
            images = True
        examples = all_finite(as_examples(inputs, by_name[LABELS], by_name[GROUPS], images=images))
        classes = [str(name) for name in np.atleast_1d(arrays["class_names"])] if "class_names" in arrays else None
        if "n_train" not in arrays or self.test_fraction is not None:
            return Source(examples, class_names=classes)
        if arrays["n_train"].size != 1 or arrays["n_train"].dtype.kind not in "iu":
            raise InputError(f"{path}: n_train must be one whole number, got {_short(arrays['n_train'])}")
        num_train = int(arrays["n_train"].item())
        if not 0 < num_train < len(examples):
            raise InputError(
                f"{path}: n_train is {num_train} of {len(examples)} rows; leave rows for training and for testing"
            )
        rows = np.arange(len(examples))
        train, test = examples.take(rows[:num_train]), examples.take(rows[num_train:])
        self.tell_of_untrained_groups(train, test)
        return Source(train, test, classes)


class TorchDataset(InMemory):
    """Any torchvision-style dataset, by class path: samples (input, label) or (input, label, group), read once.

    Inputs may be PIL images, arrays or tensors, of one shape; uint8 stays uint8. The samples are read one by one
    through the dataset's own transforms and then kept in memory; draws of these transforms from a global generator
    depend on ``seed``. For random augmentation use ``augment``, which draws anew for each batch. In YAML::

        class_path: fedlit.data.TorchDataset
        init_args:
          train:
            class_path: torchvision.datasets.CIFAR10
            init_args: {root: data, train: true, download: true}
          test:
            class_path: torchvision.datasets.CIFAR10
            init_args: {root: data, train: false}

    Args:
        train: The training set: a dataset, a list of samples, or a callable that returns either (in YAML a class path).
            Its attribute ``classes``, if any, has the names of the classes.
        test: The test set, like ``train``, with the same classes; None holds out ``test_fraction`` of ``train``.
        **kwargs: The arguments of `InMemory`: class_names, mean, std, test_fraction, images, and those of
            `FederatedData`.

    Raises:
        InputError: If the samples cannot be used, need more memory than is free, or the test set numbers its classes
            otherwise.
    """

    def __init__(
        self,
        train: Callable[[], Dataset[Any]] | Dataset[Any],
        test: Callable[[], Dataset[Any]] | Dataset[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if test is not None and self.test_fraction is not None:
            raise InputError("test_fraction draws a test set, but test gives one; leave one of them out")
        self._train, self._test = train, test

    def prepare_data(self) -> None:
        """Make each dataset once, so that downloads happen in one process per machine."""
        for dataset in (self._train, self._test):
            if dataset is not None:
                make_dataset(dataset)

    def read(self) -> Source:
        """See `InMemory.read`."""
        train, test = make_dataset(self._train), None if self._test is None else make_dataset(self._test)
        names, *others = [names for names in classes_of(train) if names is not None] or [None]
        for other in others:
            self.refuse_other_classes(names, other, ("one part of the training set", "another part"))
        for other in [] if test is None else classes_of(test):
            self.refuse_other_classes(names, other)
        tested = None if test is None else materialise(test, self.images)
        return Source(materialise(train, self.images), tested, names)


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    with _reading(path), require_regular(path).open("rb") as stream, ZipFile(stream) as members:
        size = sum(member.file_size for member in members.infolist())
    check_fits_memory(str(path), COPIES * size, FEWER)
    with _reading(path), require_regular(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        arrays: dict[str, NDArray[Any]] = dict(file)
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise InputError(f"{path}: {name} is not an array; write the file with numpy.savez_compressed")
    return arrays


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn the errors of NumPy and zipfile into one that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(
            f"{path} cannot be read: there is no {path.absolute()}; give data.path as an absolute path, or relative to "
            "the current folder"
        ) from error
    except NPZ_ERRORS as error:
        raise InputError(
            f"{path} cannot be read as .npz ({one_line(str(error), 200)}); write one file of arrays of numbers or text "
            "for all clients, with numpy.savez_compressed(FILE, inputs=..., labels=..., groups=...)"
        ) from error


def _one_of(arrays: dict[str, NDArray[Any]], path: Path, *names: str) -> NDArray[Any] | None:
    """The array that has one of these names; None if there is none.

    Raises:
        InputError: If there are several.
    """
    found = [name for name in names if name in arrays]
    if len(found) > 1:
        raise InputError(f"{path} has both {' and '.join(found)}, which have the same meaning; leave one of them out")
    return arrays[found[0]] if found else None


def _texts(names: Any) -> list[str]:
    """Names or numbers in a list, a tuple or an array, as strings."""
    if not isinstance(names, list | tuple | np.ndarray) or not len(names):
        got = one_line(f"{names!r} of type {type(names).__name__}", 100)
        raise InputError(
            f"names of classes must be a list with one name per class, in their order, got {got}; give class_names"
        )
    return [str(name) for name in names]


def _short(array: NDArray[Any]) -> str:
    return one_line(f"{array.dtype} of shape {array.shape}: {array}", 100)


def _num_labels(source: Source) -> int:
    """One more than the largest label of either set."""
    sets = (source.train, source.test)
    labels = [int(examples.targets.max()) + 1 for examples in sets if examples is not None and len(examples)]
    if not labels:
        raise InputError("there are no examples; add some to the data")
    return max(labels)
