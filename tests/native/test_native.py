"""The loops in C are compiled, and are called as they are declared."""

from __future__ import annotations

import platform
import re
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from federations import fit, net

import fedlit.native
from fedlit.federated import FederatedLoop, FederatedModule
from fedlit.native import call, library, shortfall

FOLDER = Path(fedlit.native.__file__).parent
VERSIONS = {"x86_64": ("avx512", "avx2"), "aarch64": ("neon",), "arm64": ("neon",)}


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")
def test_the_loops_were_compiled_at_installation() -> None:
    """An installation without the loops reports no error, so each function must exist in each version."""
    assert library("exact_sum").add_exactly
    texts = "".join(path.read_text() for path in FOLDER.glob("*.h"))
    loops = re.findall(r"^LOOP\((\w+)\)", texts, re.MULTILINE)
    assert {"grad_of_weight", "grad_of_norm"} <= set(loops)
    for version in VERSIONS.get(platform.machine(), ()):
        for loop in loops:
            assert getattr(library("conv_pool"), f"{loop}_{version}")


def test_a_missing_library_is_none() -> None:
    assert library("nothing") is None


def test_arguments_are_passed_in_the_types_of_c() -> None:
    compiled = library("exact_sum")
    if compiled is None:
        pytest.skip("fedlit was installed without a C compiler")
    high, low = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    call(compiled.add_exactly, 2, torch.tensor([1.5, -2.0, 9.0]), 0.5, high, low)
    assert high.tolist() == [0.75, -1.0, 0.0]
    assert low.tolist() == [0.0, 0.0, 0.0]


#: The loops that were compiled, by name, and the warning that is given.
COMPILED = [
    ({"relu_pool_avx2", "norm_relu_pool_avx2"}, None),
    ({"relu_pool_avx2"}, "compiled for an earlier version"),  # by pip install -e . some commits ago
    (set(), None),  # for a processor that there are no loops for
    (None, "without a C compiler"),
]


@pytest.mark.parametrize(("loops", "said"), COMPILED)
def test_a_run_warns_of_missing_or_old_loops(
    loops: set[str] | None, said: str | None, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    compiled = loops if loops is None else SimpleNamespace(**dict.fromkeys(loops))
    monkeypatch.setattr(fedlit.native, "library", lambda name: compiled)
    assert (shortfall() is None) is (said is None)
    warnings.simplefilter("always")
    fit(FederatedModule(net()), FederatedLoop(2, 1, seed=0), rounds=1)
    told = [str(warning.message) for warning in recwarn if "two thirds of the possible speed" in str(warning.message)]
    assert len(told) == (said is not None)
    assert all(str(said) in text for text in told)
