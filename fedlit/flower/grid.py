"""Converts frames to Flower's messages and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from fedlit.core.errors import InputError
from fedlit.flower.frame import Bytes, WireError

if TYPE_CHECKING:
    from flwr.app import Message, RecordDict
    from flwr.serverapp import Grid

#: Flower's types of the two messages.
GREET, FIT = "query.greet", "train.fit"
#: Names under which a message holds its frame, and of its serialisation, which only fedlit reads.
RECORD, ARRAY, SERIALISED = "fedlit", "frame", "fedlit.frame"

_grid: ContextVar[Grid | None] = ContextVar("grid", default=None)


@contextmanager
def connected(grid: Grid) -> Iterator[None]:
    """Within this context, ``connection`` returns this grid."""
    token = _grid.set(grid)
    try:
        yield
    finally:
        _grid.reset(token)


def connection() -> Grid:
    """The grid of the ServerApp that this process runs.

    Raises:
        InputError: If this process runs no ServerApp.
    """
    if (grid := _grid.get()) is None:
        raise InputError(
            "real sites can only be reached through Flower: start the run by flwr run, in a project that fedlit sites "
            "new has written"
        )
    return grid


def content(frame: Bytes) -> RecordDict:
    """A frame as the content of a message."""
    from flwr.app import Array, ArrayRecord, RecordDict

    array = Array(dtype="uint8", shape=(len(frame),), stype=SERIALISED, data=bytes(frame))
    return RecordDict({RECORD: ArrayRecord({ARRAY: array})})


def message(frame: Bytes, node: int, kind: str, round: int, seconds: float) -> Message:
    """A question to a node, which expires after ``seconds``."""
    from flwr.app import Message

    return Message(content(frame), node, kind, ttl=seconds, group_id=str(round))


def frame_of(message: Any) -> Bytes:
    """The frame in a message.

    Raises:
        WireError: If it has an error or other records instead.
    """
    from flwr.app import Array, ArrayRecord

    if isinstance(message, Exception):
        raise WireError(f"its message cannot be read ({type(message).__name__})")
    if message.has_error():
        raise WireError(str(message.error.reason or f"error {message.error.code} of Flower")[:1000])
    records = dict(message.content.items())
    record = records.get(RECORD)
    if records.keys() != {RECORD} or not isinstance(record, ArrayRecord) or [*record] != [ARRAY]:
        raise WireError(
            f"its records are {', '.join(map(ascii, records))[:100] or 'none'}, not {RECORD!r} with {ARRAY!r}"
        )
    array = record[ARRAY]
    if not isinstance(array, Array) or (array.dtype, array.stype) != ("uint8", SERIALISED):
        raise WireError(f"its array is {ascii(array.dtype)[:40]} of {ascii(array.stype)[:40]}, not a frame")
    data: Bytes = array.data
    return data
