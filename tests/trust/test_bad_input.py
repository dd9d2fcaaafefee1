"""Whatever is given, ``fedlit`` ends in one clear line and status 2, or works: no traceback, no hang, no nonsense."""

from __future__ import annotations

import math
import re
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
import yaml
from trust.corpus import ALWAYS, CASES, VALUES, Case, families

from fedlit.cli import main
from fedlit.runs.read import rows_of

pytestmark = pytest.mark.trust

SECONDS = 30  # that one case may take on a busy machine; the usual one takes 0.2
LINE = 600  # characters
#: Of the families, CI runs every so manieth; all of them are slow.
STRIDE = 17

FAMILIES = list(families())


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["fedlit"])


class Hang(BaseException):
    """No ``OSError``, as ``TimeoutError`` is: that would pass for a file that cannot be read."""


@contextmanager
def time_limit() -> Iterator[None]:
    """A hang is a failure."""

    def stop(*_: object) -> None:
        raise Hang(f"not done after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def status_of(case: Case) -> int:
    for name, content in {**ALWAYS, **case.files}.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str | bytes):
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        else:
            content(path)
    with time_limit():
        try:
            return main(case.words)
        except SystemExit as stop:  # of argparse, in fedlit report
            return int(stop.code or 0)


def holds(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    """Check how a case ends."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        status = status_of(case)
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", out + err) is None  # nothing steers the terminal
    if status == 0:
        assert case.said in (None, ""), f"works, but should say {case.said}"
        if case.words[0] == "fit":
            _no_nonsense(" ".join(str(warning.message) for warning in warned))
        return
    assert case.said is not None, err
    assert status == 2
    assert err.startswith("fedlit: error: ")
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    assert len(err) <= LINE
    assert re.search(case.said, err), err
    assert not Path("logs").exists()


def _no_nonsense(warned: str) -> None:
    """What was trained is made of numbers, or it was said that it is not; without validation nothing is measured."""
    rows = [row for table in Path().rglob("metrics.csv") for row in rows_of(table.parent)]
    losses = [float(loss) for row in rows if (loss := row.get("global/loss"))]
    (config,) = Path().rglob("config.yaml")
    validated = yaml.safe_load(config.read_text())["trainer"]["check_val_every_n_epoch"] in (None, 1)
    assert bool(losses) == validated
    assert "diverged" in warned or all(math.isfinite(loss) for loss in losses)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_mistake_ends_in_one_line_or_works(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    holds(case, capsys)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in islice(FAMILIES, 0, None, STRIDE)])
def test_a_number_is_refused_or_can_be_computed_with(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    holds(case, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in FAMILIES])
def test_every_number_is_refused_or_can_be_computed_with(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    holds(case, capsys)


def test_the_corpus_is_large_and_its_sample_has_every_value() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
    assert len(names) >= 200
    assert math.gcd(STRIDE, len(VALUES)) == 1
