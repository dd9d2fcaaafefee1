"""Frames are unpacked unchanged, and invalid ones are refused."""

from __future__ import annotations

import json
import pickle
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlit.flower.frame import MARK, MOST_HEADER, Blob, Frame, Kind, WireError, pack, unpack

KIND = Kind("k", {"n": int, "x": float, "t": str, "b": bool, "l": list}, {"v": ("<f4", "<f8"), "w": ("<i8",)})
VALUES = st.fixed_dictionaries(
    {
        "n": st.integers(-(2**63), 2**63 - 1),
        "x": st.floats(allow_nan=False),
        "t": st.text(max_size=50),
        "b": st.booleans(),
        "l": st.lists(st.text(max_size=9), max_size=5),
    }
)


@given(VALUES, st.binary(max_size=10), st.binary(max_size=10), st.sampled_from(["<f4", "<f8"]))
def test_a_frame_comes_out_as_it_was_packed(values, v, w, dtype):
    size = {"<f4": 4, "<f8": 8}[dtype]
    blobs = {"v": Blob(dtype, v * size), "w": Blob("<i8", w * 8)}
    found = unpack(pack(Frame("k", values, blobs)), KIND)
    assert found.values == values
    assert {name: (blob.dtype, bytes(blob.data)) for name, blob in found.blobs.items()} == {
        "v": (dtype, v * size),
        "w": ("<i8", w * 8),
    }


@given(st.binary(max_size=300))
def test_any_bytes_are_a_wire_error_or_a_frame_and_never_another_error(data):
    for start in (b"", MARK, MARK + struct.pack("<I", max(0, len(data) - 20))):
        with pytest.raises(WireError):
            unpack(start + data, KIND)


GOOD = Frame(
    "k", {"n": 1, "x": 0.5, "t": "a", "b": True, "l": ["c"]}, {"v": Blob("<f4", b"\0" * 8), "w": Blob("<i8", b"")}
)


def raw(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return MARK + struct.pack("<I", len(text)) + text + body


def changed(**parts: object) -> bytes:
    header = {"kind": "k", "values": dict(GOOD.values), "blobs": [["v", "<f4", 2], ["w", "<i8", 0]], **parts}
    return raw(header, b"\0" * 8)


HOSTILE = {
    "nothing": (b"", "not a frame"),
    "a pickle": (pickle.dumps({"n": 1}), "not a frame"),
    "another version": (b"fedlit\0\2" + pack(GOOD)[8:], "not a frame"),
    "cut off in the header": (pack(GOOD)[:30], "header"),
    "cut off in a blob": (pack(GOOD)[:-1], "should have 8 bytes, but 7 were received"),
    "too long": (pack(GOOD) + b"\0", "should have 8 bytes, but 9 were received"),
    "a header of 4 GB": (MARK + b"\xff\xff\xff\xff" + b"{}", "header should have 4,294,967,295"),
    "a header that is no JSON": (raw(b"\xff\xfe"), "not JSON"),
    "a header of a million brackets": (raw(b"[" * (MOST_HEADER - 1)), "not JSON"),
    "a header that is a list": (raw([]), "exactly kind, values and blobs"),
    "another part": (raw({"kind": "k", "values": {}, "blobs": [], "code": "x"}), "exactly kind, values and blobs"),
    "another kind": (changed(kind="z"), "kind 'z'"),
    "a kind that is a list": (changed(kind=["k"]), "kind"),
    "a value more": (changed(values={**GOOD.values, "z": 1}), "its values are"),
    "a value less": (changed(values={"n": 1}), "its values are"),
    "values that are a list": (changed(values=[1]), "its values are"),
    "a text for a number": (changed(values={**GOOD.values, "n": "1"}), "n is '1'"),
    "a truth for a number": (changed(values={**GOOD.values, "n": True}), "n is True"),
    "a number for a list": (changed(values={**GOOD.values, "l": [1]}), "l is"),
    "a number beyond 64 bits": (changed(values={**GOOD.values, "n": 2**70}), "beyond 64 bits"),
    "blobs of other names": (changed(blobs=[["z", "<f4", 2], ["w", "<i8", 0]]), "its blobs are"),
    "a blob twice": (changed(blobs=[["v", "<f4", 1], ["v", "<f4", 1], ["w", "<i8", 0]]), "its blobs are"),
    "blobs in another order": (changed(blobs=[["w", "<i8", 0], ["v", "<f4", 2]]), "its blobs are"),
    "a blob of objects": (changed(blobs=[["v", "|O", 2], ["w", "<i8", 0]]), "type '|O'"),
    "a blob of an unhashable type": (changed(blobs=[["v", [], 2], ["w", "<i8", 0]]), "type"),
    "a negative length": (changed(blobs=[["v", "<f4", -2], ["w", "<i8", 0]]), "-2 numbers"),
    "a false length": (changed(blobs=[["v", "<f4", 3], ["w", "<i8", 0]]), "should have 12 bytes"),
    "a length beyond memory": (changed(blobs=[["v", "<f4", 2**62], ["w", "<i8", 0]]), "bytes, but"),
    "a length that is no number": (changed(blobs=[["v", "<f4", 2.0], ["w", "<i8", 0]]), "2.0 numbers"),
    "blobs that are no list": (changed(blobs={"v": 1}), "list of blobs"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_an_invalid_frame_is_refused_in_one_line(case: str):
    data, said = HOSTILE[case]
    with pytest.raises(WireError) as error:
        unpack(data, KIND)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_the_valid_frame_behind_the_hostile_ones_is_accepted():
    assert unpack(changed(), KIND) == unpack(pack(GOOD), KIND)


def test_a_frame_that_is_too_long_is_not_read():
    with pytest.raises(WireError, match="at most 10 are allowed"):
        unpack(pack(GOOD), KIND, most=10)


def test_a_header_that_would_be_refused_is_not_sent():
    with pytest.raises(WireError, match="longer than"):
        pack(Frame("k", {"t": "x" * MOST_HEADER}, {}))
