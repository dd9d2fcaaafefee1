"""Compares two runs bit by bit: weights, server optimizer, scalars on disk and in TensorBoard."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedlit.runs.board import curves_in
from fedlit.runs.folder import CHECKPOINTS
from fedlit.runs.read import rows_of

#: The parts that are compared, causes before their effects, since the first difference is reported.
PARTS = ("weights", "server optimizer", "algorithm", "best weights", "metrics", "TensorBoard")

Contents = list[tuple[str, Any]]


class ComparedPart(NamedTuple):
    """One part of two runs.

    Attributes:
        part: One of ``PARTS``.
        hashes: SHA-256 of the part in both runs, as hexadecimal digits.
        difference: The first difference and its size; empty if there is none.
    """

    part: str
    hashes: tuple[str, str]
    difference: str


def compare_runs(one: Path, other: Path) -> list[ComparedPart]:
    """Compare two run folders part by part, without wall times and paths.

    Raises:
        FileNotFoundError: If one has no checkpoint.
    """
    contents = [run_contents(run) for run in (one, other)]
    return [
        ComparedPart(part, (sha256(a), sha256(b)), first_difference(a, b))
        for part in PARTS
        for a, b in [(contents[0][part], contents[1][part])]
    ]


def run_contents(run: Path) -> dict[str, Contents]:
    """All that two runs of one config and seed must have in common, as named tensors, numbers and texts, by part."""
    last = _loaded(run, "last")
    best = _loaded(run, "best") if (run / CHECKPOINTS / "best.ckpt").is_file() else {}
    algorithm = {"rounds": last["global_step"], "loop": last["callbacks"].get("FederatedLoop"), **last["fedlit"]}
    trees = (last["state_dict"], last["optimizer_states"], algorithm, best.get("state_dict", {}))
    metrics = [(f"{k} of round {row['round']}", v) for row in rows_of(run) for k, v in row.items() if not is_time(k)]
    return dict(zip(PARTS, (*([*leaves(tree)] for tree in trees), metrics, board(run)), strict=True))


def _loaded(run: Path, which: str) -> dict[str, Any]:
    return dict(torch.load(run / CHECKPOINTS / f"{which}.ckpt", weights_only=True, map_location="cpu"))


def board(run: Path) -> Contents:
    """Every point of every curve as TensorBoard shows it, except times."""
    curves = sorted((tag, points) for tag, points in curves_in(run).items() if not is_time(tag))
    return [(f"{tag} of round {point.step}", point.value) for tag, points in curves for point in points]


def is_time(name: str) -> bool:
    """Whether a scalar is a wall time or a speed, which differ between any two runs."""
    return name.endswith(("seconds", "per_second"))


def leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dicts and lists, named by dotted keys."""
    if isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            yield from leaves(value, f"{name}.{key}".lstrip("."))
    else:
        yield name, tree


def sha256(contents: Contents) -> str:
    """Hash of names and values; tensors are hashed by their bits."""
    digest = hashlib.sha256()
    for name, value in contents:
        digest.update(f"{name}\0{_bits(value)}\0".encode())
    return digest.hexdigest()


def first_difference(one: Contents, other: Contents) -> str:
    """A description of the first value that differs in any bit; empty if none does."""
    for a, b in zip_longest(one, other, fillvalue=("nothing", None)):
        if a[0] != b[0]:
            return f"one run has {a[0]} where the other has {b[0]}"
        if _bits(a[1]) != _bits(b[1]):
            return f"{a[0]}: {_apart(a[1], b[1])}"
    return ""


def _bits(value: Any) -> str:
    if not isinstance(value, Tensor):
        return repr(value)
    bits = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(bits).hexdigest()}"


def _apart(one: Any, other: Any) -> str:
    if isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape == other.shape:
        return f"largest difference {(one.double() - other.double()).abs().max().item():.3g}"
    return f"{_brief(one)} and {_brief(other)}"


def _brief(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
