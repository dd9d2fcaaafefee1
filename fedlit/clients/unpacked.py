"""What an earlier fedlit left of clients, a file for each client and round, ``FOLDER/CLIENT/ROUND.npy``, as packs."""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fedlit.clients.versions import name_of
from fedlit.core.errors import InputError
from fedlit.core.packs import writing_pack

OLD = re.compile(r"(?P<client>\d+)/(?P<round>\d+)\.npy(?P<part>\.part)?")


def pack_old(folder: Path) -> None:
    """Pack the files of earlier versions, a pack for each round, and remove them once all is packed.

    Where that is cut off it is done again: vectors that are twice there are the same.

    Raises:
        InputError: When one of the files cannot be read.
    """
    rounds: dict[int, dict[int, Path]] = defaultdict(dict)
    for path, match in _old_files(folder):
        if not match["part"]:
            rounds[int(match["round"])][int(match["client"])] = path
    for round, files in sorted(rounds.items()):
        clients = np.array(sorted(files))
        with writing_pack(folder / name_of(clients, np.full(len(clients), round))) as pack:
            for client in clients.tolist():
                pack.add(client, round, _load(files[client]))
    remove_old(folder)


def remove_old(folder: Path) -> None:
    """Remove the files of earlier versions, and the folders that nothing else is in."""
    for path, _ in _old_files(folder):
        path.unlink(missing_ok=True)
        with suppress(OSError):  # what fedlit did not write stays, and its folder
            path.parent.rmdir()


def _old_files(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    """Those that earlier versions wrote, the cut-off ones among them, with what their names say."""
    paths = folder.glob("[0-9]*/*.npy*")
    matches = ((path, OLD.fullmatch(f"{path.parent.name}/{path.name}")) for path in paths)
    return [(path, match) for path, match in matches if match]


def _load(path: Path) -> Tensor:
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False)).float()
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path}, what a client keeps, cannot be read ({error}); put it back from a copy, or remove it, and the "
            "client goes on from what else is there"
        ) from error
