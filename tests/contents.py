"""All that two runs of one config and seed must have in common, file by file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from fedlit.clients.store import ClientStore
from fedlit.core.checkpoint import read
from fedlit.core.limits import COUNT_MAX
from fedlit.core.packs import read_pack
from fedlit.runs.compare import board, is_time, leaves, sha256
from fedlit.runs.read import rows_of

#: Curves are read as TensorBoard shows them; an earlier config is there of a run that was begun with fewer rounds.
LEFT_OUT = ("events.", "config_until_round_")


def contents(run: Path) -> dict[str, Any]:
    """What is in each file of a run, but for wall times, paths and the words it was started by.

    Of what clients keep it is the newest of each: how long the others stay depends on which checkpoints there were.
    """
    files = sorted(path for path in run.rglob("*") if path.is_file() and not path.name.startswith(LEFT_OUT))
    found = {str(path.relative_to(run)): _reader(path)(path) for path in files if "clients" not in path.parts}
    return {**found, "clients": kept(run / "clients"), "TensorBoard": board(run)}


def kept(folder: Path) -> dict[int, str]:
    """A hash of the newest vector that each client keeps there."""
    store = ClientStore(folder)
    store.begin()
    clients = sorted(
        {client for path in folder.glob("*.pack") for client in read_pack(path).entries["client"].tolist()}
    )
    rows = store.find(clients, COUNT_MAX)
    return {client: hashlib.sha256(row.content()).hexdigest() for client, row in zip(clients, rows, strict=True) if row}


def _reader(path: Path) -> Callable[[Path], Any]:
    by_name = {"metrics.csv": _rows, "config.yaml": _config}
    return by_name.get(path.name, _checkpoint if path.suffix == ".ckpt" else _digest)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _rows(path: Path) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if not is_time(name)} for row in rows_of(path.parent)]


def _config(path: Path) -> dict[str, Any]:
    config = yaml.safe_load(path.read_text())
    return {key: value for key, value in config.items() if key not in ("ckpt_path", "logs_dir", "config")}


def _checkpoint(path: Path) -> str:
    parts = ("state_dict", "optimizer_states", "fedlit", "global_step", "epoch")
    checkpoint = read(path)
    loop = checkpoint["callbacks"]["FederatedLoop"]
    return sha256([*leaves({**{part: checkpoint[part] for part in parts}, "loop": loop})])
