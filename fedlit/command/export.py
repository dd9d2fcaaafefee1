"""Write the network of a checkpoint as a file that other programs read.

  fedlit export --config configs/quickstart.yaml --ckpt_path best --to onnx

  safetensors   the weights by their names, for a network that is made elsewhere
  onnx          the whole computation, for ONNX Runtime and others; batches of any size
  pt2           the same, for torch.export.load

What the file computes is compared with the checkpoint's network on test examples before it is there. The network and
the data are those of the config.yaml in the run's folder; of a checkpoint from elsewhere, those of --config.
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
from fedlit.core.checkpoint import read
from fedlit.core.errors import InputError
from fedlit.core.terminal import Terminal
from fedlit.data.module import FederatedData
from fedlit.federated.module import FederatedModule
from fedlit.federated.reload import config_of, load_arguments
from fedlit.runs.export import export
from fedlit.runs.folder import find_checkpoint, plain_name, run_of

#: Test examples on which the file is compared with the checkpoint.
EXAMPLES = 64


def parser() -> Parser:
    """Of the command's options."""
    options = Parser(prog="fedlit export", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("--ckpt_path", type=str, required=True, help="best, last, or a checkpoint's file.")
    options.add_argument("--to", type=Literal["safetensors", "onnx", "pt2"], required=True, help="The format.")
    options.add_argument(
        "--config",
        type=str | None,
        default=None,
        help="Config of the run: its file's name is the run's; read for a checkpoint that lies in no run's folder.",
    )
    options.add_argument("--name", type=str | None, default=None, help="Name of the run; by default the config file's.")
    options.add_argument("--logs_dir", type=str, default="logs", help="Folder of all runs.")
    options.add_argument("--version", type=str | None, default=None, help="Which run of that name; else the newest.")
    options.add_argument(
        "--out", type=str | None, default=None, help="The file; by default the checkpoint's name, in the run's folder."
    )
    return options


def main(words: Sequence[str]) -> int:
    """Export.

    Returns:
        0.
    """
    options = parser().parse_args(list(words))
    checkpoint = _checkpoint(options)
    run = run_of(checkpoint)
    config = Path(options.config) if run is None and options.config else config_of(checkpoint)
    out = Path(options.out) if options.out else (run or Path()) / f"{checkpoint.stem}.{options.to}"
    if run is None and not options.out and out.exists():
        raise InputError(f"{out} is there; name another file by --out")
    arguments, data = load_arguments(config, FederatedModule)
    module = FederatedModule.load_from_checkpoint(checkpoint, **arguments).eval()
    data.setup()
    rows = torch.arange(EXAMPLES) % len(data.test)
    inputs = data.transform(data.test.inputs[rows])
    rounds = read(checkpoint)["global_step"]
    out.parent.mkdir(parents=True, exist_ok=True)
    difference = export(module.net, inputs, out, options.to, facts(module, data, inputs, rounds))
    console = Terminal()
    console.print(f"{out}: the network after round {rounds}")
    console.print(f"takes {taken(data, inputs)}; gives logits of {data.num_classes} classes")
    same = f"to {difference:.1g}" if difference else "to the bit"
    console.print(f"checked: on {EXAMPLES} test examples its logits are the checkpoint's {same}")
    return 0


def _checkpoint(options: Any) -> Path:
    if options.ckpt_path in ("best", "last"):
        name = options.name or (Path(options.config).stem if options.config else "default")
        return find_checkpoint(options.logs_dir, plain_name(name), options.ckpt_path, options.version)
    if not (file := Path(options.ckpt_path)).is_file():
        raise InputError(f"no checkpoint file {options.ckpt_path!r}; use --ckpt_path last, best or a file")
    return file


def taken(data: FederatedData, inputs: Tensor) -> str:
    """The inputs that the network takes, in words."""
    kind = f"{str(inputs.dtype).removeprefix('torch.')} (batch, {', '.join(map(str, inputs.shape[1:]))})"
    return f"{kind}: pixels / 255, less {data.mean}, over {data.std}" if data.test.inputs.dtype == torch.uint8 else kind


def facts(module: FederatedModule, data: FederatedData, inputs: Tensor, rounds: int) -> dict[str, str]:
    """What an exported file says of its network."""
    net = type(module.net)
    return {
        "fedlit": fedlit.__version__,
        "round": str(rounds),
        "net": f"{net.__module__}.{net.__qualname__}",
        "inputs": taken(data, inputs),
        "classes": json.dumps(data.class_names),
    }
