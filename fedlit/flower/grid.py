"""Flower's messages: the only place where frames become messages, and messages frames."""

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

#: Types of messages.
GREET, FIT = "query.greet", "train.fit"
#: Under which a message holds its frame, and how the frame is said to be serialised: nothing but fedlit reads it.
RECORD, ARRAY, SERIALISED = "fedlit", "frame", "fedlit.frame"

_grid: ContextVar[Grid | None] = ContextVar("grid", default=None)


@contextmanager
def connected(grid: Grid) -> Iterator[None]:
    """Inside, ``connection`` gives this grid."""
    token = _grid.set(grid)
    try:
        yield
    finally:
        _grid.reset(token)


def connection() -> Grid:
    """The grid of the ServerApp that this process runs.

    Raises:
        InputError: When it runs none.
    """
    if (grid := _grid.get()) is None:
        raise InputError(
            "data of real sites are reached through Flower alone: start the run by flwr run, in a project that fedlit "
            "sites new has made"
        )
    return grid


def content(frame: Bytes) -> RecordDict:
    """A frame as the content of a message."""
    from flwr.app import Array, ArrayRecord, RecordDict

    array = Array(dtype="uint8", shape=(len(frame),), stype=SERIALISED, data=bytes(frame))
    return RecordDict({RECORD: ArrayRecord({ARRAY: array})})


def message(frame: Bytes, node: int, kind: str, round: int, seconds: float) -> Message:
    """A question to a node, which is void after so many seconds."""
    from flwr.app import Message

    return Message(content(frame), node, kind, ttl=seconds, group_id=str(round))


def frame_of(message: Any) -> Bytes:
    """The frame in a message.

    Raises:
        WireError: When there is none: an error in its place, or other records.
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
        raise WireError(f"its array is {ascii(array.dtype)[:40]} of {ascii(array.stype)[:40]}, and no frame")
    data: Bytes = array.data
    return data
