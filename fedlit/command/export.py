"""Write the network of a checkpoint as a file that other programs read.

  fedlit export --config configs/quickstart.yaml --ckpt_path best --to onnx

  safetensors   the weights by name, for a program that defines the network itself
  onnx          the whole computation, for ONNX Runtime and others; batches of any size
  pt2           the whole computation, for torch.export.load

Before the file is written, its outputs are compared with the checkpoint's on test examples. Network and data come from
config.yaml in the run's folder. For a checkpoint outside of a run's folder they come from --config.
"""

from __future__ import annotations

import json
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

import fedlit
from fedlit.command.parser import Parser
from fedlit.command.place import check_place
from fedlit.core.checkpoint import read
from fedlit.core.errors import InputError
from fedlit.core.messages import one_line
from fedlit.core.terminal import Terminal
from fedlit.data.module import FederatedData
from fedlit.federated.checkpointed import stay_with_clients
from fedlit.federated.module import FederatedModule
from fedlit.federated.reload import config_of, load_arguments
from fedlit.runs.export import export
from fedlit.runs.folder import find_checkpoint, plain_name, run_of, usable

#: Number of test examples on which file and checkpoint are compared.
EXAMPLES = 64


def parser() -> Parser:
    """The parser of the command."""
    options = Parser(prog="fedlit export", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("--ckpt_path", type=str, required=True, help="best, last, or a checkpoint's file.")
    options.add_argument("--to", type=Literal["safetensors", "onnx", "pt2"], required=True, help="The format.")
    options.add_argument(
        "--config",
        type=str | None,
        default=None,
        help="Config of the run: its file name gives the run's name; it is read for a checkpoint outside of a "
        "run's folder.",
    )
    options.add_argument(
        "--name", type=str | None, default=None, help="Name of the run; by default that of the config file."
    )
    options.add_argument("--logs_dir", type=str, default="logs", help="Folder of all runs.")
    options.add_argument(
        "--version", type=str | None, default=None, help="Folder of the run; by default the newest of that name."
    )
    options.add_argument(
        "--out",
        type=str | None,
        default=None,
        help="File to write; by default the checkpoint's name, in the run's folder.",
    )
    return options


def main(words: Sequence[str]) -> int:
    """Export a checkpoint's network.

    Returns:
        0.
    """
    options = parser().parse_args(list(words))
    checkpoint = _checkpoint(options)
    run = run_of(checkpoint)
    config = Path(options.config) if run is None and options.config else config_of(checkpoint)
    out = Path(options.out) if options.out else (run or Path()) / f"{checkpoint.stem}.{options.to}"
    if (options.out or run is None) and out.exists():  # it may be any file of the user's
        raise InputError(f"{out} exists; give another file by --out, or remove it")
    usable(out.parent, "--out")
    arguments, data = load_arguments(config, FederatedModule)
    module = FederatedModule.load_from_checkpoint(checkpoint, **arguments).eval()
    data.setup()
    rows = torch.arange(EXAMPLES) % len(data.test)
    inputs = data.transform(data.test.inputs[rows])
    saved = read(checkpoint)
    rounds, local = saved["global_step"], one_line(", ".join(stay_with_clients(saved)), 100)
    out.parent.mkdir(parents=True, exist_ok=True)
    difference = export(module.net, inputs, out, options.to, facts(module, data, inputs, rounds, local))
    console = Terminal()
    console.print(f"{out}: the network after round {rounds}")
    if local:
        console.print(f"the global model: the file has the average of the clients' own {local}")
    console.print(f"input: {taken(data, inputs)}; output: logits of {data.num_classes} classes")
    same = f"to {difference:.1g}" if difference else "to the bit"
    console.print(f"checked: its logits on {EXAMPLES} test examples equal the checkpoint's {same}")
    return 0


def _checkpoint(options: Any) -> Path:
    if options.ckpt_path in ("best", "last"):
        name = options.name or (Path(options.config).stem if options.config else "default")
        return find_checkpoint(options.logs_dir, plain_name(name), options.ckpt_path, options.version)
    if not (file := Path(options.ckpt_path)).is_file():
        raise InputError(f"no checkpoint file {options.ckpt_path!r}; use --ckpt_path last, best or a file")
    if run := run_of(file):
        check_place(run, options.name, options.version, "export")
    return file


def taken(data: FederatedData, inputs: Tensor) -> str:
    """The type, shape and scaling of the network's inputs, in words."""
    kind = f"{str(inputs.dtype).removeprefix('torch.')} (batch, {', '.join(map(str, inputs.shape[1:]))})"
    if data.own_transform:
        return f"{kind}: the result of {type(data).__module__}.{data.own_transform}"
    return f"{kind}: (pixels / 255 - {data.mean}) / {data.std}" if data.test.inputs.dtype == torch.uint8 else kind


def facts(module: FederatedModule, data: FederatedData, inputs: Tensor, rounds: int, local: str) -> dict[str, str]:
    """The metadata of an exported file; ``local`` names the tensors that stay with each client."""
    net = type(module.net)
    return {
        "fedlit": fedlit.__version__,
        "round": str(rounds),
        "net": f"{net.__module__}.{net.__qualname__}",
        "inputs": taken(data, inputs),
        "classes": json.dumps(data.class_names),
        **({"averages of the clients' own": local} if local else {}),
    }
