"""Which version of the loops in C runs, and that a run records it."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from federations import fit

from fedlit.core import checkpoint
from fedlit.core.errors import InputError
from fedlit.native import NEWEST, versions
from fedlit.native.versions import MEASURED, PYTORCH, VARIABLE, choose, kernels_on, other_kernels, runnable

CPU = torch.device("cpu")


class Compiled:
    """A library with the loops of some versions."""

    def __init__(self, *names: str) -> None:
        self.__dict__ = {f"{NEWEST}_{name}": None for name in names}


X86, ARM = Compiled("avx512", "avx2"), Compiled("neon")


@pytest.mark.parametrize(
    ("compiled", "capability", "wanted"),
    [
        (X86, "AVX512", ("avx512", "avx2")),
        (X86, "AVX2", ("avx2",)),
        (X86, "DEFAULT", ()),  # neither
        (X86, "NO AVX", ()),
        (ARM, "DEFAULT", ("neon",)),
        (ARM, "SVE256", ("neon",)),
        (Compiled(), "DEFAULT", ()),  # another kind of processor
        (None, "AVX512", ()),  # no C compiler
    ],
)
def test_a_version_runs_where_it_was_compiled_and_the_processor_has_its_instructions(
    compiled: Compiled | None, capability: str, wanted: tuple[str, ...]
) -> None:
    with (
        patch.object(versions, "library", lambda name: compiled),
        patch.object(torch.backends.cpu, "get_cpu_capability", lambda: capability),
    ):
        assert runnable() == wanted
        assert choose(None) == next((name for name in wanted if name in MEASURED), PYTORCH)
        for name in (*wanted, PYTORCH):
            assert choose(name) == name
        for name in {"avx512", "avx2", "neon", "AVX2", "fast"} - set(wanted):
            with pytest.raises(InputError, match=f"{VARIABLE} must be .*{PYTORCH} .*got '{name}'; unset it"):
                choose(name)


def test_neon_runs_only_where_it_is_named() -> None:
    """It was not measured yet."""
    with patch.object(versions, "runnable", lambda: ("neon",)):
        assert choose(None) == choose("") == PYTORCH
        assert choose("neon") == "neon"


@pytest.mark.skipif("avx2" not in runnable(), reason="the processor has no AVX2, or there is no C compiler")
def test_a_lowered_cpu_capability_of_pytorch_applies_to_the_loops() -> None:
    """PyTorch looks once in a process."""
    ask = "from fedlit.native.versions import version; print(version())"
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE} | {
        "ATEN_CPU_CAPABILITY": "avx2"
    }
    said = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "avx2"


def test_an_environment_variable_can_set_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*runnable(), PYTORCH):
        monkeypatch.setenv(VARIABLE, name)
        assert versions.version.__wrapped__() == name


def test_a_wrong_name_is_refused_before_the_first_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "fast")
    monkeypatch.setattr(versions, "version", versions.version.__wrapped__)
    with pytest.raises(InputError, match=f"{VARIABLE} must be "):
        fit(rounds=1)


def test_a_record_names_both_kinds_of_kernels() -> None:
    of_pytorch = f"PyTorch's {torch.backends.cpu.get_cpu_capability()}"
    with patch.object(versions, "version", lambda: "avx2"):
        assert kernels_on(CPU) == f"avx2 beside {of_pytorch}"
        assert kernels_on(torch.device("cuda", 1)) == "PyTorch's cuda"
        assert kernels_on(torch.device("cuda", 1), "16-mixed") == "PyTorch's cuda in 16-mixed"
        assert kernels_on(CPU, "bf16-mixed") == f"avx2 beside {of_pytorch} in bf16-mixed"
    with patch.object(versions, "version", lambda: PYTORCH):
        assert kernels_on(CPU) == of_pytorch


def test_other_kernels_cause_a_warning_unless_the_record_is_too_old() -> None:
    assert other_kernels(None, "new") is None
    assert other_kernels("same", "same") is None
    line = other_kernels("one", "other")
    assert line is not None
    assert "one" in line
    assert "other" in line
    assert "bits may differ" in line
    assert "\n" not in line


@pytest.mark.parametrize("changed", [True, False])
def test_a_resume_with_other_kernels_says_so_and_goes_on(
    changed: bool, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    fit(rounds=1, root=tmp_path)
    (path,) = tmp_path.rglob("*.ckpt")
    assert checkpoint.read(path)["fedlit"]["kernels"] == kernels_on(CPU)
    warnings.simplefilter("always")
    with patch.object(versions, "kernels_on", lambda *on: "others" if changed else kernels_on(*on)):
        module = fit(rounds=2, root=tmp_path, ckpt_path=path)
    assert module.trainer.global_step == 2
    said = [str(warning.message) for warning in recwarn if "other kernels" in str(warning.message)]
    assert len(said) == changed


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty", "ignore:The dirpath has changed")
def test_a_run_that_continues_in_another_precision_says_so(tmp_path: Path):
    """Also if the config says ``auto`` on both machines."""
    fit(rounds=1, root=tmp_path)
    (path,) = tmp_path.rglob("*.ckpt")
    with pytest.warns(
        UserWarning, match="the run began with other kernels, .* and continues with .* in bf16-mixed: its"
    ):
        fit(rounds=2, root=tmp_path, ckpt_path=path, precision="bf16-mixed")
