"""Checks of the data that a data module loaded, before the first round; each mistake is a one-line error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedlit.core.errors import InputError
from fedlit.core.messages import one_line
from fedlit.core.ranks import gather_list
from fedlit.core.seeding import isolated_rng
from fedlit.data.convert import check_finite
from fedlit.data.describe import kind_of
from fedlit.data.examples import Examples
from fedlit.data.fingerprint import differences

#: Methods of a data module that are not called for clients' batches, or that provide the rounds.
FIXED = ("train_dataloader", "transfer_batch_to_device", "on_before_batch_transfer", "on_after_batch_transfer")


def check_hooks(kind: type, base: type) -> None:
    """Refuse a data module that overrides a method which a federation does not call for its clients.

    Raises:
        InputError: Naming the method.
    """
    for name in FIXED:
        if getattr(kind, name) is not getattr(base, name):
            raise InputError(
                f"{kind.__name__}.{name} would not be called for the clients' batches; convert inputs in transform, "
                "augment them by data.augment, and return the examples from load"
            )


def check_pair(loaded: Any, name: str) -> tuple[Examples, Examples]:
    """The training and the test set, as returned by ``load`` of a data module.

    Raises:
        InputError: If ``loaded`` is not a pair of examples, or a set is empty.
    """
    if not (isinstance(loaded, tuple | list) and len(loaded) == 2 and all(isinstance(x, Examples) for x in loaded)):
        got = ", ".join(type(x).__name__ for x in loaded) if isinstance(loaded, tuple | list) else type(loaded).__name__
        raise InputError(
            f"{name}.load must return a training and a test set, two fedlit.data.Examples, got {got}; make them from "
            "tensors: Examples(inputs, targets)"
        )
    for part, examples in zip(("training", "test"), loaded, strict=True):
        if not len(examples):
            raise InputError(f"the {part} set is empty; give it examples, or change the fraction held out")
    train, test = loaded
    return train, test


def check_names(names: Any, name: str) -> list[str]:
    """The names of the classes, checked.

    Raises:
        InputError: If they are not a list of strings, or fewer than two.
    """
    if not (isinstance(names, list | tuple) and all(isinstance(each, str) for each in names)):
        raise InputError(
            f"{name}.class_names must be a list of strings, one name per class, got {one_line(repr(names), 100)}; "
            "convert numbers with str"
        )
    if len(names) < 2:
        has = f"one class, {names[0]}," if names else "no class"
        raise InputError(f"the data has {has} but classification needs at least two; add a class")
    return list(names)


def check_examples(train: Examples, test: Examples, num_classes: int) -> None:
    """Refuse examples that cannot be used for training or testing.

    Raises:
        InputError: Naming the value.
    """
    for part, examples in (("training", train), ("test", test)):
        inputs, low, high = examples.inputs, int(examples.targets.min()), int(examples.targets.max())
        if low < 0:
            raise InputError(
                f"{part} labels must be class numbers from 0, got {low}; renumber the classes, and leave out "
                "unlabelled examples"
            )
        if high >= num_classes:
            raise InputError(f"label {high} has no name among {num_classes} class_names; name every class")
        if not inputs[0].numel():
            raise InputError(
                f"{part} inputs hold no numbers, as their shape is {tuple(inputs.shape)}; give each at least one"
            )
        if inputs.requires_grad:
            raise InputError(f"{part} inputs must not require a gradient; give inputs.detach()")
    if test.inputs.dtype != train.inputs.dtype or test.inputs.shape[1:] != train.inputs.shape[1:]:
        raise InputError(
            f"test inputs are {test.inputs.dtype} of shape {tuple(test.inputs.shape)}, training inputs "
            f"{train.inputs.dtype} of shape {tuple(train.inputs.shape)}; give both the same type and shape"
        )
    check_finite(test.inputs, "test inputs")  # not training inputs: clients with non-finite updates are rejected


def check_ranks(contents: Mapping[str, Any]) -> None:
    """Refuse data that are not the same on all ranks.

    Args:
        contents: What this rank has loaded.

    Raises:
        InputError: Naming the first rank with other data, and what differs.
    """
    first, *others = gather_list([contents])
    for rank, other in enumerate(others, start=1):
        if other != first:
            found = "; ".join(differences(first, other)) or "their last digits"
            raise InputError(
                f"rank {rank} has loaded other data than rank 0 ({found}, where here is rank {rank}); let load and the "
                "samples depend on files and on the global generators alone, which are seeded"
            )


def check_statistics(mean: float | Sequence[float], std: float | Sequence[float], inputs: Tensor) -> None:
    """Refuse a mean or a standard deviation that cannot normalise inputs (N, C, ...), or would not be applied.

    Raises:
        InputError: Naming the value.
    """
    for name, value, unchanged in (("mean", np.asarray(mean), 0), ("std", np.asarray(std), 1)):
        if inputs.dtype != torch.uint8:
            if (value != unchanged).any():
                raise InputError(
                    f"{name} is {value.tolist()} but inputs are {kind_of(inputs)}, which are not normalised; leave it "
                    "out, and normalise them yourself or give uint8 pixels"
                )
        elif value.size not in (1, inputs.shape[1]):
            channels = inputs.shape[1]
            raise InputError(f"{name} has {value.size} numbers for {channels} channels; give one, or one per channel")
        elif not np.isfinite(value).all() or (name == "std" and (value <= 0).any()):
            raise InputError(f"{name} must be finite{', and > 0' * unchanged}, got {value.tolist()}; correct it")


def check_transform(transform: Callable[[Tensor], Tensor], inputs: Tensor, name: str) -> None:
    """Refuse a user's own transform whose result for an example varies, or depends on the batch's other examples.

    Args:
        transform: From a batch of inputs (B, ...) to the network's inputs.
        inputs: A few training inputs, at least one.
        name: The class of the data module.

    Raises:
        InputError: If the transform fails, changes its input in place, draws, or mixes examples.
    """
    given = inputs.clone()
    try:
        with isolated_rng(0, inputs.device):
            together = transform(given)
        with isolated_rng(1, inputs.device):
            alone = torch.cat([transform(each) for each in inputs.clone().split(1)])
        is_same = together.shape == alone.shape and torch.allclose(together, alone, rtol=1e-3, atol=1e-5)
    except Exception as error:
        said = one_line(f"{type(error).__name__}: {error}", 200)
        raise InputError(
            f"{name}.transform fails on a batch of {inputs.dtype} of shape {tuple(inputs.shape)} ({said}); let "
            "it accept any number of inputs"
        ) from error
    if not torch.equal(given, inputs):
        raise InputError(f"{name}.transform changes its input, the data set, in place; let it return a new tensor")
    if not is_same:
        raise InputError(
            f"{name}.transform gives another result for the same example in a second call or in another batch; use "
            "data.augment for random changes, and statistics of the whole training set instead of the batch's"
        )
