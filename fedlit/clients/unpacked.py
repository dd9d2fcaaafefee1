"""What an earlier fedlit left of clients, a file for each client and round, ``FOLDER/CLIENT/ROUND.npy``, as packs."""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fedlit.clients.versions import name_of
from fedlit.core.errors import InputError
from fedlit.core.packs import writing_pack


def pack_old(folder: Path) -> None:
    """Pack the files of earlier versions, a pack for each round, and remove them once all is packed.

    Where that is cut off it is done again: vectors that are twice there are the same.

    Raises:
        InputError: When one of the files cannot be read.
    """
    rounds: dict[int, dict[int, Path]] = defaultdict(dict)
    for path in folder.glob("[0-9]*/*.npy"):
        if (match := re.fullmatch(r"(\d+)/(\d+)\.npy", f"{path.parent.name}/{path.name}")) is not None:
            rounds[int(match[2])][int(match[1])] = path
    for round, files in sorted(rounds.items()):
        clients = np.array(sorted(files))
        with writing_pack(folder / name_of(clients, np.full(len(clients), round))) as pack:
            for client in clients.tolist():
                pack.add(client, round, _load(files[client]))
    remove_old(folder)


def remove_old(folder: Path) -> None:
    """Remove the folders of clients that earlier versions made."""
    for path in folder.glob("[0-9]*/"):
        shutil.rmtree(path)


def _load(path: Path) -> Tensor:
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False)).float()
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path}, what a client keeps, cannot be read ({error}); put it back from a copy, or remove it, and the "
            "client goes on from what else is there"
        ) from error
