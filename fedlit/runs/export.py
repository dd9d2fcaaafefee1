"""Writes a trained network for other programs, and checks the file against the network."""

from __future__ import annotations

import copy
import importlib.util
import json
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from packaging.version import Version
from torch import Tensor, nn

from fedlit.core.errors import InputError
from fedlit.core.files import writing
from fedlit.core.messages import one_line
from fedlit.core.private_torch import original

#: Largest allowed difference of an output: this share of the largest output, or this value if all outputs are below 1.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Format:
    """A file format for networks.

    Args:
        packages: Packages that it needs beside PyTorch.
        write: Writes a network, given example inputs (B, ...), the path, and facts that the file stores.
        run: Outputs (B, C) of the file's network for these inputs. If the file has only weights, they are loaded into
            the given network.
        torch: The lowest version of PyTorch that it needs.
    """

    packages: tuple[str, ...]
    write: Callable[[nn.Module, Tensor, Path, Mapping[str, str]], None]
    run: Callable[[nn.Module, Tensor, Path], Tensor]
    torch: str = "2.4"


@torch.no_grad()
def export(net: nn.Module, inputs: Tensor, path: Path, to: str, facts: Mapping[str, str]) -> float:
    """Write a network to a file; an existing file is replaced only after the new one computes the same outputs.

    Args:
        net: The network, in evaluation mode, on the CPU.
        inputs: Example inputs (B, ...) with B >= 2; a file with the computation takes any number of inputs.
        path: The file.
        to: One of ``FORMATS``.
        facts: Facts about the network that the file stores.

    Returns:
        The largest difference between the outputs of the file's network and of this one.

    Raises:
        InputError: If a package is missing or too old, or the network cannot be written, or its outputs differ.
    """
    format = FORMATS[to]
    if missing := [name for name in format.packages if importlib.util.find_spec(name) is None]:
        raise InputError(f"--to {to} needs {', '.join(missing)}; install it with pip install 'fedlit[export]'")
    if Version(torch.__version__) < Version(format.torch):
        raise InputError(
            f"--to {to} needs torch {format.torch} or newer, but {torch.__version__} is installed; upgrade it"
        )
    net = original(net)
    expected = net(inputs)
    with writing(path), tempfile.TemporaryDirectory(prefix=".export_", dir=path.parent) as folder:
        part = Path(folder) / f"part.{to}"  # PyTorch warns of other endings
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they concern the developers of PyTorch and other packages
                format.write(net, inputs, part, facts)
                found = format.run(copy.deepcopy(net), inputs, part)
        except OSError:
            raise
        except Exception as error:
            said = one_line(f"{type(error).__name__}: {error}", 200)
            raise InputError(f"--to {to}: the network cannot be exported: {said}; {_REMEDY}") from error
        difference = float((found - expected).abs().max())
        if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
            raise InputError(f"--to {to}: the file's outputs differ by {difference:.1g} from the network's; {_REMEDY}")
        part.replace(path)
    return difference


_REMEDY = "use --to safetensors, which can hold the weights of any network"


def _write_weights(net: nn.Module, inputs: Tensor, path: Path, facts: Mapping[str, str]) -> None:
    from safetensors.torch import save_model

    save_model(net, str(path), metadata=dict(facts))


def _run_weights(net: nn.Module, inputs: Tensor, path: Path) -> Tensor:
    from safetensors.torch import load_model

    for tensor in net.state_dict().values():
        tensor.zero_()
    load_model(net, str(path))
    return net(inputs)  # type: ignore[no-any-return]


def _program(net: nn.Module, inputs: Tensor) -> torch.export.ExportedProgram:
    """The network's computation, for any batch size."""
    return torch.export.export(net, (inputs,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False)


def _write_program(net: nn.Module, inputs: Tensor, path: Path, facts: Mapping[str, str]) -> None:
    torch.export.save(_program(net, inputs), path, extra_files={"fedlit.json": json.dumps(dict(facts))})


def _run_program(net: nn.Module, inputs: Tensor, path: Path) -> Tensor:
    return torch.export.load(path).module()(inputs)  # type: ignore[no-any-return]


def _write_onnx(net: nn.Module, inputs: Tensor, path: Path, facts: Mapping[str, str]) -> None:
    program = _program(net, inputs)
    written = torch.onnx.export(
        program, (inputs,), dynamo=True, verbose=False, input_names=["inputs"], output_names=["logits"]
    )
    assert written is not None
    written.model.metadata_props.update(facts)
    written.save(str(path))


def _run_onnx(net: nn.Module, inputs: Tensor, path: Path) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"inputs": inputs.numpy()})
    return torch.from_numpy(logits)


#: Formats by file ending.
FORMATS = {
    "safetensors": Format(("safetensors",), _write_weights, _run_weights),
    "onnx": Format(("onnx", "onnxscript", "onnxruntime"), _write_onnx, _run_onnx, torch="2.6"),
    "pt2": Format((), _write_program, _run_program),
}
