"""A pack: one file of many clients' vectors, written once and whole.

It is ``n`` rows of ``size`` float32 scalars, then ``n`` entries that say whose row each is, then a tail of fixed length
with both numbers, a checksum of the entries and the mark of the format; all little-endian. The numbers give the exact
length of the file, so one that was cut off is known by it. Each row has a checksum of its own, in its entry: a row is
found by the entries and read alone, and one that was damaged costs no other.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedlit.core.errors import InputError
from fedlit.core.files import atomic_write, require_regular
from fedlit.core.limits import COUNT_MAX

#: Whose a row is, the round whose fit left it, and the CRC-32 of its bytes.
ENTRY = np.dtype([("client", "<i8"), ("round", "<i8"), ("crc", "<u4")])
#: Scalars of a row, rows, the CRC-32 of both and the entries, and the mark.
TAIL = struct.Struct("<QQI12s")
MARK = b"fedlit pack\1"
BUFFER = 1 << 20


class BrokenPackError(InputError):
    """A file that is not a whole pack.

    Args:
        path: The file.
        reason: What is wrong with it.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)

    def __str__(self) -> str:
        path, reason = self.args
        return (
            f"{path} is not a whole file of what clients keep: {reason}; put it back from a copy, or remove it, and "
            "its clients go on from what else is there"
        )


class Row(NamedTuple):
    """Where a vector lies.

    Attributes:
        path: The pack.
        offset: Bytes before it.
        size: Its scalars.
        crc: The CRC-32 of its bytes.
    """

    path: str
    offset: int
    size: int
    crc: int

    def content(self) -> bytearray:
        """Its bytes as they are in the file.

        Raises:
            BrokenPackError: When the file ends before.
            OSError: When it cannot be read.
        """
        content = bytearray(4 * self.size)
        with Path(self.path).open("rb", buffering=0) as file:
            file.seek(self.offset)
            if file.readinto(content) < len(content):
                raise BrokenPackError(Path(self.path), "it was cut off since it was first read")
        return content

    def read(self) -> Tensor:
        """The vector, (size,), float32, to the bit as it was written.

        Raises:
            ValueError: When its bytes are others.
            BrokenPackError: When the file ends before.
            OSError: When it cannot be read.
        """
        content = self.content()
        if zlib.crc32(content) != self.crc:
            raise ValueError(f"{self.path} is damaged: the checksum of the vector at byte {self.offset} is another")
        return torch.from_numpy(np.frombuffer(content, "<f4").astype(np.float32, copy=False))


class Pack(NamedTuple):
    """What a pack holds, without its rows.

    Attributes:
        path: The file.
        size: Scalars of each row.
        entries: Of each row, (n,), of type ``ENTRY``.
    """

    path: Path
    size: int
    entries: NDArray[Any]

    def row(self, index: int) -> Row:
        """Where a row lies."""
        return Row(str(self.path), 4 * self.size * index, self.size, int(self.entries["crc"][index]))


class Writer:
    """Appends rows to a new pack; of all that it was given only the entries stay in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._size = 0
        self._entries: list[tuple[int, int, int]] = []

    def add(self, client: int, round: int, vector: Tensor) -> None:
        """Append a vector (V,), of the length of those before.

        Raises:
            ValueError: When it is not.
        """
        content = vector.detach().cpu().numpy().astype("<f4", copy=False).tobytes()
        self.copy(client, round, content, zlib.crc32(content))

    def copy(self, client: int, round: int, content: bytes | bytearray, crc: int) -> None:
        """Append the bytes of a row as they are, with the checksum that it had: what was damaged stays known as such.

        Raises:
            ValueError: When the length is another than before.
        """
        size = len(content) // 4
        if self._entries and size != self._size:
            raise ValueError(f"client {client} keeps {size} scalars in round {round}, others {self._size}")
        self._size = size
        self._file.write(content)
        self._entries.append((client, round, crc))

    def finish(self) -> None:
        """Append the entries and the tail."""
        entries = np.array(self._entries, ENTRY).tobytes()
        counts = self._size, len(self._entries)
        self._file.write(entries + TAIL.pack(*counts, _crc(entries, *counts), MARK))


@contextmanager
def writing_pack(path: Path) -> Iterator[Writer]:
    """A new pack that is there, on disk and whole, once the block has ended, and until then is not.

    Raises:
        UnwritableError: When the system does not let it be written.
    """
    with atomic_write(path, "wb", buffering=BUFFER) as file:
        writer = Writer(file)
        yield writer
        writer.finish()
        file.flush()
        os.fsync(file.fileno())


def read_pack(path: Path) -> Pack:
    """What a pack holds; its rows are not read.

    Raises:
        BrokenPackError: When it is cut off, damaged, or something else.
    """
    try:
        with require_regular(path).open("rb", buffering=0) as file:
            length = file.seek(0, os.SEEK_END)
            file.seek(max(length - TAIL.size, 0))
            tail = file.read(TAIL.size)
            if len(tail) < TAIL.size or not tail.endswith(MARK):
                raise BrokenPackError(path, "it is cut off, or something else")
            size, count, crc, _ = TAIL.unpack(tail)
            if length != count * (4 * size + ENTRY.itemsize) + TAIL.size:
                raise BrokenPackError(path, f"{count:,} vectors of {size:,} scalars are not {length:,} bytes")
            file.seek(4 * size * count)
            entries = file.read(count * ENTRY.itemsize)
    except OSError as error:
        raise BrokenPackError(path, error.strerror or str(error)) from error
    if _crc(entries, size, count) != crc:
        raise BrokenPackError(path, "the checksum of its entries is another")
    pack = Pack(path, size, np.frombuffer(entries, ENTRY))
    if not all(0 <= number <= COUNT_MAX for name in ("client", "round") for number in _extremes(pack.entries[name])):
        raise BrokenPackError(path, "it has clients or rounds of impossible numbers")
    return pack


def _extremes(numbers: NDArray[np.int64]) -> tuple[int, int]:
    return int(numbers.min(initial=0)), int(numbers.max(initial=0))


def _crc(entries: bytes, size: int, count: int) -> int:
    return zlib.crc32(struct.pack("<QQ", size, count), zlib.crc32(entries))
