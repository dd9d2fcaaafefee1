"""Identifies data by hashes of all their values, so that a run resumes with the data it began with.

The numbers of ranks and workers, the layout in memory and the type of the source do not matter: hashed is what
`Examples` hold. It takes about a second for each GB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedlit.data.examples import Examples

#: Values that are hashed at a time, so that inputs that are not contiguous are not copied as a whole.
CHUNK = 2**17
#: Random projections of float inputs, and how far they may differ, as a share of the norm of all inputs: rounding stays
#: below it, and a change of one value by more than about twice that share of the norm does not.
PROJECTIONS, ROUNDING = 2, 2e-6
PARTS = ("training", "test")
#: Training inputs that are looked at as the network sees them, normalised or transformed.
SEEN = 8
#: The number of inputs in an early fingerprint, and the stride of positions within them, a prime.
EARLY_INPUTS, EARLY_STRIDE = 32, 7919


def contents_of(
    train: Examples | None, test: Examples, transform: Callable[[Tensor], Tensor]
) -> dict[str, dict[str, Any]]:
    """Facts on all that results depend on, as plain values: inputs, labels and groups, and how inputs are converted.

    Args:
        train: The whole training set; None if it is elsewhere.
        test: The test set.
        transform: From a batch of inputs to the network's.
    """
    first = (test if train is None else train).inputs[:SEEN]
    seen = {"seen": _sketch(transform(first.clone()))}
    if train is None:
        return {"test": _facts(test), "first": seen}
    groups = None if train.groups is None else _hash(torch.from_numpy(train.groups))
    return {"training": {**_facts(train), "groups": groups}, "test": _facts(test), "first": seen}


def differences(then: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What differs between two results of ``contents_of``, other than by rounding: a text for each fact."""
    found = [*differences_in_sets(then, now)]
    yield from found
    if not found and "first" in then and not _are_close(then["first"]["seen"], now["first"]["seen"]):
        yield "mean, std or transform convert the first examples to another input of the network"


def differences_in_sets(
    then: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]], parts: Sequence[str] = PARTS
) -> Iterator[str]:
    """The differences in the training set, the test set or both, however their inputs are converted."""
    for part in parts:
        if part in then and part in now:
            yield from _of_part(part, then[part], now[part])


def _of_part(part: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if then["examples"] != now["examples"]:
        yield f"number of {part} examples is {then['examples']} there, but {now['examples']} here"
        return  # as everything differs
    for fact in ("labels", "groups", "inputs"):
        if fact == "inputs" and then["type"] != now["type"]:
            yield f"{part} inputs are {then['type']} there, but {now['type']} here"
        elif then.get(fact) != now.get(fact) and not (fact == "inputs" and _are_close(then["sketch"], now["sketch"])):
            before, here = (facts.get(fact) or "missing" for facts in (then, now))
            yield f"hash of the {part} {fact} is {before} there, but {here} here"


def rounded(then: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The parts whose inputs have other last digits, if ``differences`` finds nothing."""
    return [part for part in PARTS if part in then and part in now and then[part]["inputs"] != now[part]["inputs"]]


def early_fingerprint(examples: Examples) -> str:
    """The hash in checkpoints of earlier versions, 16 hex digits: of all labels and of one value of each of 32 inputs.

    Values are rounded to a hundredth, as the last digits of computed inputs differ from machine to machine.
    """
    rows = np.linspace(0, len(examples) - 1, EARLY_INPUTS).astype(np.int64)
    inputs = examples.inputs[torch.from_numpy(rows).to(examples.inputs.device)].double().cpu().numpy()
    numbers = inputs.reshape(len(rows), -1)  # (R, F)
    chosen = numbers[np.arange(len(rows)), np.arange(len(rows)) * EARLY_STRIDE % numbers.shape[1]]  # (R,)
    chosen[~np.isfinite(chosen)] = 0
    scale = abs(chosen).max() or 1.0
    digest = hashlib.blake2b(examples.targets.cpu().numpy().astype("<i8").tobytes(), digest_size=8)
    digest.update(np.rint(chosen / scale * 100).astype("<i8").tobytes())
    return digest.hexdigest()


def _facts(examples: Examples) -> dict[str, Any]:
    inputs = examples.inputs
    return {
        "examples": len(examples),
        "type": f"{str(inputs.dtype).removeprefix('torch.')} of shape {tuple(inputs.shape[1:])}",
        "labels": _hash(examples.targets),
        "inputs": _hash(inputs),
        "sketch": _sketch(inputs) if inputs.is_floating_point() else None,
    }


def _hash(values: Tensor) -> str:
    """16 hex digits from the bytes of all values (N, ...) in their order."""
    digest = hashlib.blake2b(digest_size=8)
    for rows in _chunks(values):
        digest.update(rows.astype(rows.dtype.newbyteorder("<"), copy=False).reshape(-1).data)
    return digest.hexdigest()


def _sketch(values: Tensor) -> list[float]:
    """Random projections of values (N, ...), with the same directions in each call, and their norm.

    A change of one value, or another order, changes all projections by its own size; rounding errors of many values
    mostly cancel. Values that are not finite count as 0, as the hash has them.
    """
    draw = np.random.default_rng(0)
    columns = _signed(draw, (PROJECTIONS, int(np.prod(values.shape[1:]))))
    rows = _signed(draw, (len(values),))
    projected, squares, start = np.zeros(PROJECTIONS), 0.0, 0
    for chunk in _chunks(values):
        numbers = chunk.reshape(len(chunk), -1).astype(np.float64)  # (R, F)
        square = _dot("rf,rf->", numbers, numbers)
        if not np.isfinite(square):
            numbers = np.where(np.isfinite(numbers), numbers, 0)
            square = _dot("rf,rf->", numbers, numbers)
        weights = rows[start : start + len(chunk)]
        projected += [_dot("r,r->", weights, _dot("rf,f->r", numbers, column)) for column in columns]
        squares, start = squares + float(square), start + len(chunk)
    return [*projected.tolist(), squares**0.5]


def _dot(subscripts: str, one: NDArray[np.float64], other: NDArray[np.float64]) -> Any:
    """A sum of products on one thread: with BLAS, its last digits would depend on the number of threads."""
    return np.einsum(subscripts, one, other, optimize=False)


def _signed(draw: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Weights of either sign between 0.5 and 1.5 in size."""
    return np.asarray(draw.uniform(0.5, 1.5, shape) * draw.choice([-1.0, 1.0], shape))


def _are_close(then: list[float] | None, now: list[float] | None) -> bool:
    """Whether two sketches are of values that are equal but for rounding."""
    if then is None or now is None:
        return False
    return len(then) == len(now) and bool(np.allclose(then, now, rtol=0, atol=ROUNDING * max(then[-1], now[-1])))


def _chunks(values: Tensor) -> Iterator[NDArray[Any]]:
    """The values in contiguous pieces of a few rows, on the CPU; a view where that is what they are."""
    for piece in values.detach().split(max(1, CHUNK // max(1, values[:1].numel()))):
        known = piece.float() if piece.dtype == torch.bfloat16 else piece  # which NumPy lacks
        yield np.ascontiguousarray(known.cpu().numpy())
