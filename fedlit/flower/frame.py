"""The binary format of messages between server and sites, in which every length is checked before it is used.

A frame consists of a mark, the length of a header, the header, and the blobs that it lists, without gaps. The header is
JSON with the kind of the frame, its values, and the name, number type and length of each blob. Numbers are
little-endian. Nothing in a frame is executed, unpickled or loaded by NumPy, and a frame is accepted only if it has
exactly the values and blobs of its kind. This module uses the standard library only, so that a relay process does not
import torch.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

Value: TypeAlias = bool | int | float | str | list[str]
Bytes: TypeAlias = bytes | bytearray | memoryview

MARK = b"fedlit\0\1"
LENGTH = struct.Struct("<I")
#: The longest header in bytes. It does not contain the network's layout, so it does not grow with the network.
MOST_HEADER = 1 << 16
#: Bytes of one number, by type.
SIZE_OF = {"<f4": 4, "<f8": 8, "<i8": 8, "|b1": 1}


class WireError(ValueError):
    """A frame is not valid; the message is one line with the reason."""


class Blob(NamedTuple):
    """Numbers of one type.

    Attributes:
        dtype: A key of ``SIZE_OF``.
        data: Their bytes.
    """

    dtype: str
    data: Bytes

    def __len__(self) -> int:
        """The number of numbers."""
        return len(self.data) // SIZE_OF[self.dtype]


class Kind(NamedTuple):
    """The exact content of frames of one kind.

    Attributes:
        name: The kind's name.
        values: The types of its values, by name.
        blobs: The number types that each blob may have, by name.
    """

    name: str
    values: Mapping[str, type]
    blobs: Mapping[str, tuple[str, ...]]


class Frame(NamedTuple):
    """The content of a frame.

    Attributes:
        kind: Its kind's name.
        values: Texts, numbers and booleans, by name.
        blobs: Vectors, by name.
    """

    kind: str
    values: Mapping[str, Value]
    blobs: Mapping[str, Blob]


def pack(frame: Frame) -> bytes:
    """The bytes of a frame."""
    listed = [[name, blob.dtype, len(blob)] for name, blob in frame.blobs.items()]
    header = json.dumps({"kind": frame.kind, "values": dict(frame.values), "blobs": listed}).encode()
    if len(header) > MOST_HEADER:
        raise WireError(f"a header of {len(header):,} bytes is longer than {MOST_HEADER:,}")
    return b"".join([MARK, LENGTH.pack(len(header)), header, *(blob.data for blob in frame.blobs.values())])


def unpack(data: Bytes, *kinds: Kind, most: int | None = None) -> Frame:
    """The content of a frame of one of the given kinds; blobs are views of ``data``, not copies.

    Args:
        data: The received bytes.
        kinds: The expected kinds.
        most: The largest length in bytes; None is no limit.

    Raises:
        WireError: If the bytes are no such frame; it names the first fault.
    """
    if most is not None and len(data) > most:
        raise WireError(f"it has {len(data):,} bytes, but at most {most:,} are allowed")
    view = memoryview(data)
    start = len(MARK) + LENGTH.size
    if len(view) < start or view[: len(MARK)] != MARK:
        raise WireError("it is not a frame of this version of fedlit")
    (length,) = LENGTH.unpack(view[len(MARK) : start])
    if length > MOST_HEADER or len(view) < start + length:
        raise WireError(f"its header should have {length:,} bytes, but {len(view) - start:,} follow")
    header = _header(bytes(view[start : start + length]))
    kind = next((each for each in kinds if each.name == header["kind"]), None)
    if kind is None:
        expected = " or ".join(each.name for each in kinds)
        raise WireError(f"it is a frame of kind {_shown(header['kind'])}, not {expected}")
    _check_values(header["values"], kind)
    return Frame(kind.name, header["values"], _blobs(view[start + length :], header["blobs"], kind))


def _header(content: bytes) -> dict[str, Any]:
    try:
        header = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise WireError("its header is not JSON") from error
    if not isinstance(header, dict) or header.keys() != {"kind", "values", "blobs"}:
        raise WireError("its header does not have exactly kind, values and blobs")
    return header


def _check_values(values: Any, kind: Kind) -> None:
    if not isinstance(values, dict) or values.keys() != kind.values.keys():
        given = sorted(values) if isinstance(values, dict) else values
        raise WireError(f"its values are {_shown(given)}, not {_shown(sorted(kind.values))}")
    for name, wanted in kind.values.items():
        value = values[name]
        of_texts = wanted is list and isinstance(value, list) and all(isinstance(each, str) for each in value)
        if type(value) is not wanted or (wanted is list and not of_texts):
            raise WireError(f"{name} is {_shown(value)}, which is not of type {wanted.__name__}")
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            raise WireError(f"{name} is {_shown(value)}, which is beyond 64 bits")


def _blobs(rest: memoryview, listed: Any, kind: Kind) -> dict[str, Blob]:
    if not isinstance(listed, list) or not all(isinstance(each, list) and len(each) == 3 for each in listed):
        raise WireError("its list of blobs is not valid")
    if [name for name, _, _ in listed] != [*kind.blobs]:
        raise WireError(f"its blobs are {_shown([name for name, _, _ in listed])}, not {_shown([*kind.blobs])}")
    found, start = {}, 0
    for name, dtype, count in listed:
        if dtype not in kind.blobs[name]:
            raise WireError(f"{name} is of type {_shown(dtype)}, not {' or '.join(kind.blobs[name])}")
        if type(count) is not int or count < 0:
            raise WireError(f"{name} has {_shown(count)} numbers")
        stop = start + count * SIZE_OF[dtype]
        found[name] = Blob(dtype, rest[start:stop])
        start = stop
    if start != len(rest):
        raise WireError(f"its blobs should have {start:,} bytes, but {len(rest):,} were received")
    return found


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
