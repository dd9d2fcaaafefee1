"""A pack: one file with the vectors of many clients, written once, atomically.

It holds ``n`` rows of ``size`` float32 scalars, then ``n`` entries with the client, round and checksum of each row,
then a tail of fixed length with both numbers, a checksum of the entries and a magic number; all little-endian. The
numbers determine the file's length, so a truncated file is detected. Each row can be read and verified alone: a damaged
row does not affect the others.
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

#: A row's client, the round in which its fit ended, and the CRC-32 of its bytes.
ENTRY = np.dtype([("client", "<i8"), ("round", "<i8"), ("crc", "<u4")])
#: Number of scalars in a row, number of rows, the CRC-32 of both and the entries, and the magic number.
TAIL = struct.Struct("<QQI12s")
MAGIC = b"fedlit pack\1"
BUFFER = 1 << 20


class BrokenPackError(InputError):
    """A file that is not a complete pack.

    Args:
        path: The file.
        reason: What is wrong with it.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)

    def __str__(self) -> str:
        path, reason = self.args
        return (
            f"{path} is not a complete file of client states: {reason}; restore it from a copy, or remove it, and its "
            "clients continue from their other saved states"
        )


class Row(NamedTuple):
    """The place of a vector in a pack.

    Attributes:
        path: The pack.
        offset: Position of its first byte.
        size: Number of its scalars.
        crc: The CRC-32 of its bytes.
    """

    path: str
    offset: int
    size: int
    crc: int

    def content(self) -> bytearray:
        """The vector's bytes, not verified.

        Raises:
            BrokenPackError: If the file is too short.
            OSError: If the file cannot be read.
        """
        content = bytearray(4 * self.size)
        with Path(self.path).open("rb", buffering=0) as file:
            file.seek(self.offset)
            if file.readinto(content) < len(content):
                raise BrokenPackError(Path(self.path), "it was truncated after it was first read")
        return content

    def read(self) -> Tensor:
        """The vector (size,), float32, exactly as it was written.

        Raises:
            ValueError: If its checksum does not match.
            BrokenPackError: If the file is too short.
            OSError: If the file cannot be read.
        """
        content = self.content()
        if zlib.crc32(content) != self.crc:
            raise ValueError(f"{self.path} is damaged: the checksum of the vector at byte {self.offset} differs")
        return torch.from_numpy(np.frombuffer(content, "<f4").astype(np.float32, copy=False))


class Pack(NamedTuple):
    """A pack's index, without its rows.

    Attributes:
        path: The file.
        size: Number of scalars in each row.
        entries: One entry of type ``ENTRY`` for each row, (n,).
    """

    path: Path
    size: int
    entries: NDArray[Any]

    def row(self, index: int) -> Row:
        """The place of a row."""
        return Row(str(self.path), 4 * self.size * index, self.size, int(self.entries["crc"][index]))


class Writer:
    """Appends rows to a new pack; only the entries stay in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._size = 0
        self._entries: list[tuple[int, int, int]] = []

    def add(self, client: int, round: int, vector: Tensor) -> None:
        """Append a vector (V,).

        Raises:
            ValueError: If its length differs from that of the vectors before.
        """
        content = vector.detach().cpu().numpy().astype("<f4", copy=False).tobytes()
        self.copy(client, round, content, zlib.crc32(content))

    def copy(self, client: int, round: int, content: bytes | bytearray, crc: int) -> None:
        """Append the bytes of a row with its old checksum, so that damage stays detectable.

        Raises:
            ValueError: If its length differs from that of the rows before.
        """
        size = len(content) // 4
        if self._entries and size != self._size:
            raise ValueError(f"client {client} keeps {size} scalars in round {round}, but other clients {self._size}")
        self._size = size
        self._file.write(content)
        self._entries.append((client, round, crc))

    def finish(self) -> None:
        """Append the entries and the tail."""
        entries = np.array(self._entries, ENTRY).tobytes()
        counts = self._size, len(self._entries)
        self._file.write(entries + TAIL.pack(*counts, _crc(entries, *counts), MAGIC))


@contextmanager
def writing_pack(path: Path) -> Iterator[Writer]:
    """Write a new pack, which appears, complete and on disk, when the block ends.

    Raises:
        UnwritableError: If it cannot be written.
    """
    with atomic_write(path, "wb", buffering=BUFFER) as file:
        writer = Writer(file)
        yield writer
        writer.finish()
        file.flush()
        os.fsync(file.fileno())


def read_pack(path: Path) -> Pack:
    """Read a pack's index, without its rows.

    Raises:
        BrokenPackError: If the file is truncated, damaged, or not a pack.
    """
    try:
        with require_regular(path).open("rb", buffering=0) as file:
            length = file.seek(0, os.SEEK_END)
            file.seek(max(length - TAIL.size, 0))
            tail = file.read(TAIL.size)
            if len(tail) < TAIL.size or not tail.endswith(MAGIC):
                raise BrokenPackError(path, "it is truncated or not a pack")
            size, count, crc, _ = TAIL.unpack(tail)
            if length != count * (4 * size + ENTRY.itemsize) + TAIL.size:
                raise BrokenPackError(path, f"{count:,} vectors of {size:,} scalars are not {length:,} bytes")
            file.seek(4 * size * count)
            entries = file.read(count * ENTRY.itemsize)
    except OSError as error:
        raise BrokenPackError(path, error.strerror or str(error)) from error
    if _crc(entries, size, count) != crc:
        raise BrokenPackError(path, "the checksum of its entries differs")
    pack = Pack(path, size, np.frombuffer(entries, ENTRY))
    if not all(0 <= number <= COUNT_MAX for name in ("client", "round") for number in _extremes(pack.entries[name])):
        raise BrokenPackError(path, "its numbers of clients or rounds are out of range")
    return pack


def _extremes(numbers: NDArray[np.int64]) -> tuple[int, int]:
    return int(numbers.min(initial=0)), int(numbers.max(initial=0))


def _crc(entries: bytes, size: int, count: int) -> int:
    return zlib.crc32(struct.pack("<QQ", size, count), zlib.crc32(entries))
