"""Which values a checkpoint can hold, by trying PyTorch itself, without reading the data of tensors."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import io
import warnings
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedlit.core.checkpoint import CheckpointFile, read, write
from fedlit.core.errors import InputError
from fedlit.core.loadable import is_loadable, unsupported_part

pytestmark = [pytest.mark.trust, pytest.mark.filterwarnings("ignore::UserWarning")]  # PyTorch's, of its rarer layouts

Pair = namedtuple("Pair", "a b")


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Mine(dict[str, int]):
    pass


class Marked(torch.Tensor):
    pass


@dataclasses.dataclass
class Record:
    value: int = 1


def tagged(value: Any, **attributes: Any) -> Any:
    """The value with attributes of its own."""
    vars(value).update(attributes)
    return value


def circle(*parts: object) -> list[Any]:
    """A list of these and of itself."""
    circle: list[Any] = [*parts]
    circle.append(circle)
    return circle


def deep(levels: int) -> list[Any]:
    return [deep(levels - 1)] if levels else []


EYE = torch.eye(4)


def values() -> dict[str, Any]:
    return {
        "None": None, "bool": True, "int": -3, "int of 100 bits": 1 << 100, "int of 3000 bits": 1 << 3000,
        "float": 1.5, "nan": float("nan"), "complex": 1j, "str": "é", "surrogate": "\ud800", "long str": "x" * 70_000,
        "bytes": b"\x00\xff", "bytearray": bytearray(b"a"), "ellipsis": ..., "range": range(3), "slice": slice(1),
        "function": lambda: 1, "built-in": len, "class": int, "list": [1, "a", [2.0]], "tuple": (1, 2, 3, 4),
        "set": {1}, "frozenset": frozenset({1}), "dict": {1: 2, "a": (3,)}, "OrderedDict": OrderedDict(a=1),
        "Counter": Counter("aab"), "defaultdict": defaultdict(list), "deque": deque([1]), "namedtuple": Pair(1, 2),
        "dict of one's own": Mine(a=1), "circle": circle(1), "circle with an array": circle(1, EYE.numpy()),
        "deep": deep(500), "OrderedDict with a number": tagged(OrderedDict(), a=1),
        "OrderedDict with an array": tagged(OrderedDict(), a=EYE.numpy()), "Size": torch.Size([1, 2]),
        "dtype": torch.float32, "uint16": torch.uint16, "device": torch.device("cpu"), "layout": torch.strided,
        "memory_format": torch.channels_last, "Generator": torch.Generator(), "random state": torch.get_rng_state(),
        "Tensor": torch.ones(3), "bfloat16": EYE.bfloat16(), "float8": EYE.to(torch.float8_e4m3fn),
        "view": EYE[1:, ::2], "complex Tensor": EYE.to(torch.complex64).conj(),
        "uint16 Tensor": torch.ones(2, dtype=torch.uint16), "twice": [EYE, EYE],
        "of a graph": torch.ones(2, requires_grad=True) * 2, "meta": torch.ones(2, device="meta"),
        "COO": EYE.to_sparse(), "CSR": EYE.to_sparse_csr(), "CSC": EYE.to_sparse_csc(),
        "BSR": EYE.to_sparse_bsr((2, 2)), "BSC": EYE.to_sparse_bsc((2, 2)),
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "quantized": torch.quantize_per_tensor(EYE, 0.1, 0, torch.quint8),
        "quantized by row": torch.quantize_per_channel(EYE, torch.ones(4), torch.zeros(4), 0, torch.qint8),
        "Parameter": nn.Parameter(torch.ones(2)), "Parameter with a number": tagged(nn.Parameter(torch.ones(2)), a=1),
        "Tensor with a number": tagged(torch.ones(3), a=1),
        "Tensor with an array": tagged(torch.ones(3), a=EYE.numpy()),
        "Tensor of one's own": torch.ones(2).as_subclass(Marked), "storage": torch.ones(2).untyped_storage(),
        "module": nn.Linear(1, 1), "optimizer": torch.optim.Adam([torch.ones(1, requires_grad=True)]).state_dict(),
        "array": np.ones(2), "float64": np.float64(1), "float32": np.float32(1), "int64": np.int64(1),
        "bool_": np.bool_(True), "str_": np.str_("a"), "NumPy's dtype": np.dtype("f4"),
        "array in a key": {np.int64(1): 1}, "in a set": {np.int64(1)}, "Path": Path("a"),
        "datetime": datetime.datetime(2020, 1, 1), "timedelta": datetime.timedelta(1), "Enum": Colour.RED,
        "IntEnum": Level.LOW, "dataclass": Record(), "Decimal": decimal.Decimal(1),
    }  # fmt: skip


with warnings.catch_warnings(action="ignore"):  # of layouts that PyTorch calls young
    VALUES = values()


def is_read_again(value: object) -> bool:
    file = io.BytesIO()
    try:
        torch.save(value, file)
        torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_loadable_exactly_if_pytorch_loads_it(name: str) -> None:
    state = {"callbacks": {"Mine": {"history": [VALUES[name]]}}}
    assert is_loadable(state) == is_read_again(state)
    assert (unsupported_part(state) == "") == is_loadable(state)


def test_the_table_has_loadable_and_unloadable_values() -> None:
    assert {True, False} == {is_loadable(value) for value in VALUES.values()}


@pytest.mark.parametrize(
    ("state", "named"),
    [
        ({"callbacks": {"Mine": {"history": [np.ones(3)]}}}, "callbacks / Mine / history[0] is a numpy.ndarray"),
        ({"a": [0, (1, {"b": Path("c")})]}, f"a[1][1] / b is a {Path.__module__}.PosixPath"),
        ({"a": {3: {"b": np.float64(1)}}}, "a[3] / b is a numpy.float64"),
        ({"a": OrderedDict(b={Level.LOW: 1})}, "a / b / key <Level.LOW: 1> is a core.test_plain.Level"),
        ({"a": Pair(1, np.ones(2))}, "a is a core.test_plain.Pair"),
        ({"a": circle(np.ones(1))}, "a[0] is a numpy.ndarray"),
        ({"a": lambda: 1}, "a is a function"),
    ],
)  # fmt: skip
def test_the_innermost_part_is_named(state: object, named: str) -> None:
    assert unsupported_part(state).replace(f"{__name__}.", "core.test_plain.") == named


def test_the_data_of_tensors_is_not_read(tmp_path: Path) -> None:
    """A tensor whose bytes cannot be read: it maps a file that was cut off, so that a look at them ends the process."""
    (tmp_path / "zeros").write_bytes(bytes(1 << 20))
    mapped = torch.from_file(str(tmp_path / "zeros"), shared=True, size=1 << 20, dtype=torch.uint8)
    (tmp_path / "zeros").write_bytes(b"")
    assert is_loadable({"state_dict": {"w": mapped}})


@pytest.mark.parametrize("path", ["last.ckpt", "memory://a/last.ckpt"])
def test_a_value_that_cannot_be_loaded_is_not_written(path: str, tmp_path: Path) -> None:
    content: dict[str, Any] = {"state_dict": {}, "global_step": 1, "fedlit": {}}
    write(content, tmp_path / "last.ckpt")
    with pytest.raises(
        InputError, match=r"^mine\[0\] is a numpy.ndarray, which a checkpoint cannot hold: .*from_numpy"
    ):
        CheckpointFile().save_checkpoint({**content, "mine": [np.ones(1)]}, path if ":" in path else tmp_path / path)
    assert read(tmp_path / "last.ckpt")["global_step"] == 1
