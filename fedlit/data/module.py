"""A data set and its partition over clients, as a LightningDataModule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from fedlit.core.counts import as_int, at_least
from fedlit.core.errors import InputError
from fedlit.core.given import Checked, check_made, is_same
from fedlit.core.limits import COUNT_MAX
from fedlit.core.messages import one_line
from fedlit.core.records import Cohort
from fedlit.core.seeding import address, generator, isolated_rng, resolve_seed, rng
from fedlit.core.threads import one_thread_if_small
from fedlit.data.augment import Augmentation
from fedlit.data.checks import check_examples, check_hooks, check_names, check_pair, check_statistics, check_transform
from fedlit.data.describe import describe
from fedlit.data.examples import Batches, Examples
from fedlit.data.fingerprint import contents_of, early_fingerprint
from fedlit.data.partition import Partition, Partitioner
from fedlit.data.partitioners import Uniform
from fedlit.data.share import Share
from fedlit.data.splitting import clients_by, held_out, split_by

DEFAULT_NUM_CLIENTS = 100
#: Default number of held-out examples in a batch; it is large, as the Trainer and the metrics take time for each batch.
HELD_OUT_BATCH = 1024
#: Attributes of a data module that the result of its ``setup`` does not depend on.
INDEPENDENT = {"batch_size", "_requested_eval_batch_size", "trainer", "notes", "is_set_up", "_asked", "_made"}


class RoundSource(ABC):
    """A callback that provides the rounds to train."""

    @abstractmethod
    def rounds(self, trainer: Trainer) -> Iterable[Cohort]:
        """One cohort for each epoch of the Trainer, as a "dataloader" of one batch."""


def _client_holdout(value: float) -> float:
    if not 0 <= value < 1:
        raise InputError(f"client_holdout must be in [0, 1), got {value}; 0.2 holds out a fifth")
    return value


def _validation_clients(value: Any) -> int:
    return at_least(0, "validation_clients", value, "0 validates on the test set")


def _partitioner(value: Any) -> Partitioner:
    if value is not None and not isinstance(value, Partitioner):
        got = value.__name__ if isinstance(value, type) else type(value).__name__
        raise InputError(f"partition must be a fedlit.data.Partitioner, got {got}; make one, such as Uniform()")
    return Uniform() if value is None else value


def _augmentation(augment: Any) -> Augmentation | None:
    modules = [augment] if isinstance(augment, nn.Module) else augment
    if not modules:
        return None
    if not isinstance(modules, list | tuple) or not all(isinstance(each, nn.Module) for each in modules):
        raise InputError(
            f"augment must be a module, or a list of modules, got {one_line(repr(augment), 100)}; give a "
            "torch.nn.Module, for example one whose forward calls it"
        )
    return Augmentation(modules)


class FederatedData(Checked, LightningDataModule, ABC):
    """A training set split over clients, and a held-out test set that no client sees.

    For your own data set, write a subclass that defines `load`, `class_names` and, unless it is 1, `in_channels`.
    Inputs stay as they were loaded (uint8 for images) and are normalised batch by batch.

    ``setup`` sets ``train`` and ``test`` (`Examples`), ``partition`` (`Partition`), ``num_clients`` and ``seed``.
    Arguments are attributes too. If one is set between two fits, the second one loads and splits the data anew.

    Args:
        partition: How the training set is split over clients; None is ``fedlit.data.Uniform``, an even IID split.
        num_clients: Number of clients; None is the number that the partitioner finds in the data
            (``fedlit.data.ByGroup``: one per group), else 100.
        batch_size: Examples in a client's training batch.
        eval_batch_size: Examples that the network evaluates at once; None is 64 on a CPU, because of its caches, and
            1024 on an accelerator. It changes speed and memory, not results, unless a loss is not a mean over
            examples, which is reported.
        seed: Seed of the partition and of any split drawn at random; None takes that of ``seed_everything``.
        client_holdout: Fraction of each client's examples, in [0, 1), rounded down, on which it does not train. After
            each of its fits the client's accuracy is measured on them, as ``clients/own_accuracy_mean`` and so on; it
            shows the effect of personal parameters, unlike the test set. Drawn with ``seed``.
        validation_clients: Number of clients, drawn with ``seed``, that never train; the others are numbered anew from
            0. Then the metrics ``global/*`` of each round, the best checkpoint, and the pictures of confusion and gates
            are based on their examples, and the test set stays unseen until ``fedlit test``; use it to choose learning
            rates and mu. 0 validates on the test set.
        augment: Random augmentation of the batches that clients train on, such as
            ``torchvision.transforms.v2.RandomCrop``: a module, or several in turn, from inputs (B, ...) as they were
            loaded (images are uint8) to inputs of the same shape and type. torchvision's transforms draw once per
            batch, or once per example within ``fedlit.data.PerExample``. Draws from the global generators of PyTorch,
            NumPy or Python depend only on (seed, round, client, epoch, batch). Evaluation is not augmented. None
            changes nothing.

    Raises:
        InputError: If a number is below 1, or ``client_holdout`` is out of range.
    """

    #: Mean and standard deviation of the training inputs, one number or one per channel, in units of [0, 1].
    mean: float | Sequence[float] = 0.0
    std: float | Sequence[float] = 1.0

    #: Whether the clients' examples are in this process; if not, ``train`` is a few examples of the same shape.
    has_examples: bool = True

    _checks: ClassVar = {
        "validation_clients": _validation_clients,
        "client_holdout": _client_holdout,
        "partitioner": _partitioner,
        "batch_size": lambda value: _size("batch_size", value),
        "_requested_eval_batch_size": lambda value: None if value is None else _size("eval_batch_size", value),
        "_requested_clients": lambda value: None if value is None else _size("num_clients", value),
        "_requested_seed": lambda value: None if value is None else as_int("seed", value),
    }
    #: From a result of ``setup`` that has the name of an argument to the attribute with that argument.
    _arguments: ClassVar[dict[str, str]] = {
        "seed": "_requested_seed",
        "num_clients": "_requested_clients",
        "partition": "partitioner",
    }

    train: Examples
    test: Examples
    partition: Partition
    num_clients: int
    seed: int

    def __init__(
        self,
        partition: Partitioner | None = None,
        num_clients: int | None = None,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        seed: int | None = None,
        client_holdout: float = 0.0,
        validation_clients: int = 0,
        augment: nn.Module | list[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.validation_clients = validation_clients
        self.client_holdout = client_holdout
        self.validation: Examples | None = None
        self.augmentation = _augmentation(augment)
        self.partitioner: Partitioner = _partitioner(partition)
        self.batch_size = batch_size
        self._requested_eval_batch_size = eval_batch_size
        self._requested_clients = num_clients
        self._requested_seed = seed
        #: Whether ``setup`` has been called.
        self.is_set_up = False
        #: Attributes that ``setup`` found and left unchanged, and those that it made.
        self._asked: dict[str, Any] = {}
        self._made: dict[str, Any] = {}
        self._own: tuple[Examples, Partition] | None = None
        #: Hashes of all that was loaded, by which a resumed run is refused with other data; empty before ``setup``.
        self.contents: dict[str, dict[str, Any]] = {}
        #: The hash of the whole training set in checkpoints of earlier versions.
        self.early_fingerprint = ""
        #: Sentences on how the data were read; ``fedlit fit`` shows them before the first round.
        self.notes: list[str] = []

    def tell(self, note: str) -> None:
        """Add a sentence for the user on how the data were read, and log it on the first rank."""
        self.notes.append(note)
        rank_zero_info(note)

    @abstractmethod
    def load(self) -> tuple[Examples, Examples]:
        """Read the training and the test set; ``setup`` calls it on each rank, after setting ``seed``."""

    @property
    @abstractmethod
    def class_names(self) -> list[str]:
        """Names of the classes in the order of their numbers, (C,); known before ``setup``."""

    @property
    def num_classes(self) -> int:
        """Number of classes, C; known before ``setup``."""
        return len(self.class_names)

    @property
    def in_channels(self) -> int:
        """Channels of the inputs; known before ``setup``."""
        return 1

    def setup(self, stage: str | None = None) -> None:
        """Load and split the data, once; a later call only acts for a fit with another seed or other settings."""
        check_made(self, "notes")
        if stage == "fit" or not self.is_set_up:
            self._take_arguments()
        seed = resolve_seed(self._requested_seed)
        if self.is_set_up and (stage != "fit" or (seed == self.seed and not self._is_changed())):
            return
        self._check_partition()
        was_set_up, self.is_set_up = self.is_set_up, False  # if loading fails, the next call loads again
        given = {name: value for name, value in self._attributes().items() if name not in self._made}
        self._set_up(seed, keeps_notes=not was_set_up)
        self.is_set_up = True
        now = self._attributes()
        self._asked = {name: value for name, value in given.items() if name in now and now[name] is value}
        self._made = {name: value for name, value in now.items() if name not in self._asked}

    def _take_arguments(self) -> None:
        """Take what was set as a result of ``setup`` that has the name of an argument for that argument."""
        if self.is_set_up and not self._made:  # a subclass has a setup of its own
            return
        for result, argument in self._arguments.items():
            value, made = vars(self).get(result), self._made.get(result)
            if value is made or isinstance(value, Partition):
                continue
            setattr(self, argument, value)
            if made is None:
                delattr(self, result)
            else:
                setattr(self, result, made)

    def _check_partition(self) -> None:
        partition = vars(self).get("partition")
        if partition is not self._made.get("partition"):
            raise InputError(
                "partition was set to a Partition, which this split of the data would replace; set it to a "
                "fedlit.data.Partitioner whose split returns that partition"
            )

    def _attributes(self) -> dict[str, Any]:
        """The attributes that ``setup`` may depend on, or makes."""
        return {
            name: value
            for name, value in vars(self).items()
            if name not in INDEPENDENT and not isinstance(getattr(type(self), name, None), cached_property)
        }

    def _is_changed(self) -> bool:
        """Whether an attribute was set since ``setup``, on which it may depend."""
        asked = {name: value for name, value in self._attributes().items() if name not in self._made}
        return bool(self._made) and any(
            name not in self._asked or not is_same(value, self._asked[name]) for name, value in asked.items()
        )

    def _set_up(self, seed: int, keeps_notes: bool) -> None:
        self.seed, self.validation, self._own = seed, None, None
        if not keeps_notes:  # else what was told when the data were read for their number of classes stays
            self.notes = []
        self.train, self.test = self._loaded()
        self.contents = contents_of(self.train, self.test, self.transform)
        self.early_fingerprint = early_fingerprint(self.train)
        if self.augmentation:
            self.augmentation.check(self.train.inputs[:2])
        labels, groups = self.train.targets.numpy(), self.train.groups
        asked = self._requested_clients or clients_by(self.partitioner, labels, groups)
        self.num_clients = asked or DEFAULT_NUM_CLIENTS
        self.partition = split_by(self.partitioner, labels, self.num_clients, self.seed, groups)
        for note in describe(self.train, self.test, self.class_names, self.mean, self.std, self.own_transform):
            self.tell(note)
        if self.partition.note:
            self.tell(f"{type(self.partitioner).__name__} partition: {self.partition.note}")
        if self.validation_clients:
            self._set_clients_apart()
        if self.client_holdout:
            self._hold_out_own()

    def _loaded(self) -> tuple[Examples, Examples]:
        """The checked result of ``load``; its draws from global generators depend on the seed."""
        name = type(self).__name__
        check_hooks(type(self), FederatedData)
        with isolated_rng(address(self.seed, "data"), torch.device("cpu")):
            train, test = check_pair(self.load(), name)
        check_examples(train, test, len(check_names(self.class_names, name)))
        check_statistics(self.mean, self.std, train.inputs)
        if self.own_transform:
            check_transform(self.transform, train.inputs[:8], name)
        return train, test

    def identity(self) -> dict[str, Any]:
        """Facts beside ``contents`` that must be the same in a resumed run, by their names in messages."""
        return {
            "number of clients": self.num_clients,
            "number of training samples": len(self.train),
            "partition hash": self.partition.hash,
        }

    def _set_clients_apart(self) -> None:
        """Remove the validation clients from the federation; the remaining ones are renumbered."""
        partition, examples = self.partition, self.train
        if self.validation_clients >= partition.num_clients:
            raise InputError(
                f"validation_clients is {self.validation_clients} of {partition.num_clients} clients, which leaves "
                "none to train; lower data.validation_clients"
            )
        apart = np.zeros(partition.num_clients, dtype=bool)
        draw = rng(self.seed, "validation clients")
        apart[draw.choice(partition.num_clients, self.validation_clients, replace=False)] = True
        chosen = apart[partition.owners]
        if chosen.all() or not chosen.any():
            drawn = one_line(", ".join(map(str, np.flatnonzero(apart).tolist())), 60)
            have = "all examples, which leaves none to train" if chosen.any() else "no examples to validate on"
            raise InputError(
                f"the validation clients that seed {self.seed} draws ({drawn}) have {have}; change "
                "data.validation_clients or data.seed, or give more clients examples by data.partition"
            )
        self.validation, self.train = examples.take(np.flatnonzero(chosen)), examples.take(np.flatnonzero(~chosen))
        self.partition = partition.restricted(~chosen).without(apart)
        self.num_clients = self.partition.num_clients

    def _hold_out_own(self) -> None:
        """Remove the held-out part of each client's examples from the training set."""
        partition, examples = self.partition, self.train
        chosen = held_out(partition.owners, self.client_holdout, rng(self.seed, "client holdout"))
        self._own = examples.take(np.flatnonzero(chosen)), partition.restricted(chosen)
        self.train, self.partition = examples.take(np.flatnonzero(~chosen)), partition.restricted(~chosen)

    @property
    def validated(self) -> Examples:
        """The examples for validation: those of the validation clients, else the test set."""
        return self.test if self.validation is None else self.validation

    @property
    def eval_batch_size(self) -> int:
        """Number of examples that the network evaluates at once."""
        return self._requested_eval_batch_size or (64 if self.test.inputs.device.type == "cpu" else HELD_OUT_BATCH)

    @eval_batch_size.setter
    def eval_batch_size(self, size: int | None) -> None:
        self._requested_eval_batch_size = size

    @property
    def augment(self) -> Sequence[nn.Module]:
        """The modules that augment training batches, in turn."""
        return self.augmentation.transforms if self.augmentation else []

    @augment.setter
    def augment(self, modules: nn.Module | list[nn.Module] | None) -> None:
        self.augmentation = _augmentation(modules)

    def transform(self, x: Tensor) -> Tensor:
        """Normalise a batch: uint8 of shape (B, C, ...) to float32 by ``mean`` and ``std``; other types are unchanged.

        An override has to return a new tensor, in which the result for an example depends on that example alone.
        """
        return normalise(x, self.mean, self.std)

    @property
    def own_transform(self) -> str | None:
        """The name of an override of `transform`; None if there is none."""
        return None if type(self).transform is FederatedData.transform else f"{type(self).__name__}.transform"

    def to(self, device: torch.device | str) -> None:
        """Move all examples to ``device``, where batches are then made and normalised."""
        self.train, self.test = self.train.to(device), self.test.to(device)
        if self._own is not None:
            self._own = self._own[0].to(device), self._own[1]
        if self.validation is not None:
            self.validation = self.validation.to(device)

    def client_batches(self, client: int, round: int, seed: int) -> Batches:
        """A client's training batches in one round: each pass is a local epoch in an order of its own.

        Args:
            client: Number of the client, in 0..num_clients-1.
            round: Number of the round, from 0.
            seed: The run's seed. The order depends only on (seed, round, client, epoch).
        """
        indices = self.partition.client(client)  # (n_k,)

        def order(epoch: int) -> Tensor:
            return torch.randperm(len(indices), generator=generator(seed, "batches", round, client, epoch))

        augment = self.augmentation.of_client(client, round, seed) if self.augmentation else None
        return Batches(self.train, self.batch_size, indices, order, self.transform, augment)

    def client_holdout_batches(self, client: int) -> Batches | None:
        """A client's own held-out examples; None if it has none."""
        if self._own is None:
            return None
        examples, partition = self._own
        indices = partition.client(client)
        return Batches(examples, self.eval_batch_size, indices, transform=self.transform) if len(indices) else None

    def client_eval_batches(self, client: int) -> Batches:
        """A client's own training examples in order, in batches of ``eval_batch_size``."""
        return Batches(self.train, self.eval_batch_size, self.partition.client(client), transform=self.transform)

    def class_counts(self, client: int) -> Tensor:
        """Number of a client's training examples of each class, (C,), int64."""
        rows = torch.from_numpy(self.partition.client(client)).to(self.train.targets.device)
        return torch.bincount(self.train.targets[rows], minlength=self.num_classes)

    def train_dataloader(self) -> Iterable[Any]:
        """The rounds of the Trainer's ``FederatedLoop``: a federation trains on cohorts, not on batches of examples.

        Raises:
            InputError: If the Trainer has no such callback.
        """
        for callback in getattr(self.trainer, "callbacks", ()):
            if isinstance(callback, RoundSource):
                return callback.rounds(self.trainer)  # type: ignore[arg-type]
        raise InputError("FederatedData needs the FederatedLoop callback: Trainer(callbacks=[FederatedLoop(...)])")

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch of examples; a cohort has no tensors, and searching its tasks for some would take time."""
        return batch if isinstance(batch, Cohort) else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def val_dataloader(self) -> Batches:
        """This rank's share of the examples for validation."""
        return self._held_out_batches(self.validated)

    def test_dataloader(self) -> Batches:
        """The held-out test set, this rank's share."""
        return self._held_out_batches(self.test)

    def predict_dataloader(self) -> Batches:
        """The held-out test set, this rank's share, with targets."""
        return self._held_out_batches(self.test)

    def _held_out_batches(self, examples: Examples) -> Batches:
        rank, world_size = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        size = self._requested_eval_batch_size or HELD_OUT_BATCH
        return Share(examples, size, self.eval_batch_size, rank, world_size, self.transform)


def _size(name: str, value: int) -> int:
    """Check a number that must be at least 1."""
    if not 1 <= (count := as_int(name, value)) <= COUNT_MAX:
        limit = "at least 1" if count < 1 else f"at most {COUNT_MAX:,}"
        raise InputError(f"{name} must be {limit}, got {count}; leave it out for the default")
    return count


def data_of(trainer: Trainer) -> FederatedData:
    """The datamodule of a Trainer.

    Raises:
        InputError: If it is missing, is not a ``FederatedData``, or is not set up.
    """
    data = getattr(trainer, "datamodule", None)
    name = type(data).__name__
    if not isinstance(data, FederatedData):
        raise InputError(
            f"the datamodule of a federation must be a fedlit.data.FederatedData, got {name}; wrap arrays in "
            "fedlit.data.Tensors, or a dataset in fedlit.data.TorchDataset"
        )
    if not data.is_set_up:
        raise InputError(f"{name}.setup has not split the data; let it call super().setup(stage), which calls load")
    return data


def normalise(x: Tensor, mean: float | Sequence[float], std: float | Sequence[float]) -> Tensor:
    """``(x / 255 - mean) / std`` in float32 for uint8 ``x`` of shape (B, C, ...); any other type is unchanged.

    Args:
        x: A batch.
        mean: One number or one per channel, in units of [0, 1].
        std: As ``mean``; > 0.
    """
    if x.dtype != torch.uint8:
        return x
    with one_thread_if_small(x):
        return x.to(torch.float32).sub_(_per_channel(mean, x) * 255).div_(_per_channel(std, x) * 255)


def _per_channel(value: float | Sequence[float], x: Tensor) -> float | Tensor:
    """``value`` in a shape that broadcasts over (B, C, ...): itself, or (C, 1, ...)."""
    if isinstance(value, int | float):
        return value
    return torch.tensor(np.asarray(value), dtype=torch.float32, device=x.device).view(-1, *[1] * (x.ndim - 2))
