"""Files of any bytes: each reader gives what it promises, or says what is wrong in one ``InputError``."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trust.corpus import arrays, idx

from fedlit.core.configs import read_yaml
from fedlit.core.errors import InputError
from fedlit.data import EMNIST, Tensors
from fedlit.federated import Trace
from fedlit.report.collect import collect
from fedlit.runs.read import rows_of
from fedlit.study.plan import read_plan

pytestmark = pytest.mark.trust

modest = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def bent(whole: bytes) -> st.SearchStrategy[bytes]:
    """A file cut short, with bytes changed, or made of anything."""

    def change(edits: list[tuple[int, int]], length: int) -> bytes:
        changed = bytearray(whole)
        for at, byte in edits:
            changed[at] = byte
        return bytes(changed[:length])

    edit = st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255))
    lengths = st.one_of(st.just(len(whole)), st.integers(0, len(whole)))
    return st.one_of(st.builds(change, st.lists(edit, max_size=6), lengths), st.binary(max_size=200))


def read(content: bytes, name: str, reader: Callable[[Path], Any]) -> Any:
    """What a reader makes of a file; None where it refuses it in one line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        try:
            return reader(path)
        except InputError as refused:
            said = str(refused)
    assert len(said.splitlines()) == 1
    return None


IMAGES, LABELS = idx(3, 2051, 28, 28), idx(3, 2049)


@modest
@given(images=bent(IMAGES[:40]).map(lambda head: head + IMAGES[40:]), labels=bent(LABELS))
def test_emnist_is_images_with_labels_in_range_or_refused(images: bytes, labels: bytes) -> None:
    def reader(path: Path) -> Any:
        path.with_name("emnist-digits-train-images-idx3-ubyte").write_bytes(images)
        path.with_name("emnist-digits-test-images-idx3-ubyte").write_bytes(IMAGES)
        path.with_name("emnist-digits-test-labels-idx1-ubyte").write_bytes(LABELS)
        return EMNIST(root=str(path.parents[2]), split="digits", download=False).load()[0]

    train = read(labels, "EMNIST/raw/emnist-digits-train-labels-idx1-ubyte", reader)
    if train is not None:
        assert train.inputs.shape == (len(train), 1, 28, 28)
        assert 0 <= train.targets.min() <= train.targets.max() < 10


def npz() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        arrays(num=8, side=2, n_train=np.array(6), class_names=np.array(list("abcd")))(path)
        return path.read_bytes()


@modest
@given(bent(npz()))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_npz_is_examples_or_refused(content: bytes) -> None:
    source = read(content, "data.npz", lambda path: Tensors(str(path)).read())
    if source is not None:
        assert len(source.train) == len(source.train.targets)
        assert source.train.targets.min() >= 0


@modest
@given(
    member=bent(
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2, 2), }".ljust(127)
        + b"\n"
        + bytes(32)
    )
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_array_of_an_npz_is_finite_or_refused(member: bytes) -> None:
    def reader(path: Path) -> Any:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("images.npy", member)
            file.writestr(
                "labels.npy",
                b"\x93NUMPY\x01\x00v\x00"
                + b"{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }".ljust(117)
                + b"\n"
                + bytes(16),
            )
        return Tensors(str(path)).read()

    source = read(b"", "data.npz", reader)
    if source is not None:
        assert np.isfinite(source.train.inputs.numpy()).all()


CELLS = st.one_of(st.integers(-2, 5).map(str), st.floats().map(str), st.text(max_size=4))
TABLES = st.lists(st.lists(CELLS, max_size=4).map(",".join), max_size=5).map(lambda rows: "\n".join(rows).encode())


@modest
@given(st.one_of(bent(b"client,round,epochs\n0,1,0.5\n1,2,1\n"), TABLES.map(b"client,round,epochs\n".__add__)))
def test_a_trace_gives_work_or_is_refused(content: bytes) -> None:
    trace = read(content, "trace.csv", lambda path: Trace(str(path)))
    if trace is not None:
        work = trace.work(np.arange(3), 2.0, seed=0, round=0)
        assert ((work >= 0) & (work <= 2)).all()


YAML = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-1, 3), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)
WHOLE = b"base: base.yaml\nseeds: [0]\nrounds: 2\naxes:\n  variant:\n    plain: {}\n    b: {model.mu: 0.1}\n"


@modest
@given(bent(WHOLE))
def test_yaml_of_any_bytes_is_a_tree_or_refused(content: bytes) -> None:
    read(content, "study.yaml", read_yaml)


@settings(modest, max_examples=30)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("base", "axes", "seeds", "rounds", "set", "select"), YAML)))
def test_a_study_of_any_values_is_refused(tree: dict[str, Any]) -> None:
    """None of these has a base that is there."""
    assert read(yaml.safe_dump(tree).encode(), "study.yaml", read_plan) is None


METRICS = b"round,global/accuracy,global/loss\n1,0.5,1.0\n2,0.6,nan\n"
ROWS = st.one_of(bent(METRICS), TABLES.map(b"round,global/accuracy\n".__add__))


@modest
@given(ROWS)
def test_the_rows_of_a_run_are_numbers_or_refused(content: bytes) -> None:
    for row in read(content, "metrics.csv", lambda path: rows_of(path.parent)) or ():
        assert int(row["round"]) == float(row["round"])


@modest
@given(ROWS)
def test_a_report_finds_runs_with_rounds_or_says_why_not(content: bytes) -> None:
    study = read(content, "logs/plain/seed_0/metrics.csv", lambda path: collect(path.parents[2]))
    if study is not None:
        assert study.horizon >= 1
