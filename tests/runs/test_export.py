"""An exported file computes the network's outputs and describes it; failures are reported."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from odd_nets import Head, TiedWeights
from packaging.version import Version
from torch import Tensor, nn

from fedlit.attention import CBAM, Spatial
from fedlit.core.errors import InputError
from fedlit.models import EmnistCNN
from fedlit.runs.export import FORMATS, export

FACTS = {"round": "3", "classes": '["a", "b"]'}
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "gates and GroupNorm": (lambda: EmnistCNN(attention=Spatial, norm="group", num_classes=3), (1, 28, 28)),
    "loops of C": (lambda: EmnistCNN(attention=CBAM, num_classes=3), (1, 28, 28)),
    "BatchNorm and dropout": (lambda: EmnistCNN(norm="batch", dropout=0.5, widths=(4, 8), num_classes=3), (1, 28, 28)),
    "tied weights": (TiedWeights, (5,)),
}

each_format = pytest.mark.parametrize("to", FORMATS)


def need(to: str) -> None:
    for package in FORMATS[to].packages:
        pytest.importorskip(package, reason=f"{package}, which fedlit[export] brings")
    if Version(torch.__version__) < Version(FORMATS[to].torch):
        pytest.skip(f"--to {to} needs torch {FORMATS[to].torch}")


@each_format
@pytest.mark.parametrize("kind", NETS)
def test_an_exported_file_computes_the_networks_outputs(to: str, kind: str, tmp_path: Path) -> None:
    need(to)
    make, shape = NETS[kind]
    torch.manual_seed(0)
    net, inputs = make().eval().to(memory_format=torch.channels_last), torch.randn(8, *shape)
    file = tmp_path / f"net.{to}"
    assert export(net, inputs, file, to, FACTS) < 1e-5
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    others = torch.randn(3, *shape)  # of another number, and never seen
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = net(others)
        torch.testing.assert_close(FORMATS[to].run(make().eval(), others, file), expected, rtol=1e-4, atol=1e-5)


@each_format
@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")
def test_a_compiled_net_is_exported_as_the_plain_one(to: str, tmp_path: Path) -> None:
    need(to)
    plain, inputs, file = Head().eval(), torch.randn(2, 5), tmp_path / f"net.{to}"
    compiled = torch.compile(plain, backend="eager")
    assert isinstance(compiled, nn.Module)
    export(compiled, inputs, file, to, FACTS)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.testing.assert_close(FORMATS[to].run(Head().eval(), inputs, file), plain(inputs), rtol=1e-4, atol=1e-5)


def test_the_facts_are_in_the_files(tmp_path: Path) -> None:
    for to in FORMATS:
        need(to)
        export(Head().eval(), torch.randn(2, 5), tmp_path / f"net.{to}", to, FACTS)
    import onnx
    from safetensors import safe_open

    with safe_open(tmp_path / "net.safetensors", "pt") as weights:
        assert weights.metadata().items() >= FACTS.items()
    assert {each.key: each.value for each in onnx.load(tmp_path / "net.onnx").metadata_props}.items() >= FACTS.items()
    kept = {"fedlit.json": ""}
    torch.export.load(tmp_path / "net.pt2", extra_files=kept)
    assert json.loads(kept["fedlit.json"]) == FACTS


class ByValue(Head):
    """Branches on a value, which an exported computation cannot do."""

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = super().forward(inputs)
        return hidden if hidden.sum() > 0 else -hidden


class Drifting(Head):
    """Gives other outputs each time."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) + torch.rand(())


@pytest.mark.parametrize(
    ("net", "said"),
    [(ByValue(), "cannot be exported"), (Drifting(), "differ by .* from the network's")],
    ids=["by", "drift"],
)
def test_a_failed_export_keeps_the_existing_file(net: nn.Module, said: str, tmp_path: Path) -> None:
    file = tmp_path / "net.pt2"
    file.write_text("earlier")
    with pytest.raises(InputError, match=rf"--to pt2: .*{said}.*safetensors"):
        export(net.eval(), torch.randn(2, 5), file, "pt2", FACTS)
    assert file.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("to", ["safetensors", "onnx"])
def test_a_package_that_is_missing_is_named_with_the_remedy(
    to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=rf"--to {to} needs .*{to}.*; install it with pip install 'fedlit\[export\]'"):
        export(Head(), torch.randn(2, 5), tmp_path / "net", to, FACTS)


def test_a_pytorch_version_that_is_too_old_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.4.1")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(InputError, match=r"--to onnx needs torch 2\.6 or newer, but 2\.4\.1 is installed; upgrade it"):
        export(Head(), torch.randn(2, 5), tmp_path / "net", "onnx", FACTS)
