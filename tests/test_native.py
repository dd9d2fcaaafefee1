"""The loops in C are there, and are called as they are declared."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from federations import fit, net

import fedlit.native
from fedlit.federated import FederatedLoop, FederatedModule
from fedlit.native import call, is_complete, library

SOURCES = sorted(Path(fedlit.native.__file__).parent.glob("*.c"))


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_what_can_be_compiled_was_compiled_at_installation(source: Path) -> None:
    """An installation that leaves them out says nothing: each function that is not static is there to be called."""
    compiled = library(source.stem)
    assert compiled is not None
    names = re.findall(r"^(?:VERSIONS )?void (\w+)\(", source.read_text(), re.MULTILINE)
    assert names
    for name in names:
        assert getattr(compiled, name)


def test_a_library_that_is_not_there_is_none() -> None:
    assert library("nothing") is None


def test_arguments_are_handed_over_as_c_has_them() -> None:
    compiled = library("exact_sum")
    if compiled is None:
        pytest.skip("fedlit was installed without a C compiler")
    high, low = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    call(compiled.add_exactly, 2, torch.tensor([1.5, -2.0, 9.0]), 0.5, high, low)
    assert high.tolist() == [0.75, -1.0, 0.0]
    assert low.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("compiled", [True, False])
def test_a_run_says_when_they_are_missing(
    compiled: bool, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(fedlit.native, "library", lambda name: object() if compiled else None)
    assert is_complete() is compiled
    warnings.simplefilter("always")
    fit(FederatedModule(net()), FederatedLoop(2, 1, seed=0), rounds=1)
    assert any("without a C compiler" in str(warning.message) for warning in recwarn) is not compiled
