"""Converts the clients' files of earlier versions, ``FOLDER/CLIENT/ROUND.npy``, into packs."""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fedlit.clients.versions import pack_name
from fedlit.core.errors import InputError
from fedlit.core.packs import writing_pack

OLD = re.compile(r"(?P<client>\d+)/(?P<round>\d+)\.npy(?P<part>\.part)?")


def pack_old(folder: Path) -> None:
    """Convert the files of earlier versions into one pack for each round, and remove them afterwards.

    It can be repeated after an interruption: vectors that are there twice are the same.

    Raises:
        InputError: If a file cannot be read.
    """
    rounds: dict[int, dict[int, Path]] = defaultdict(dict)
    for path, match in _old_files(folder):
        if not match["part"]:
            rounds[int(match["round"])][int(match["client"])] = path
    for round, files in sorted(rounds.items()):
        clients = np.array(sorted(files))
        with writing_pack(folder / pack_name(clients, np.full(len(clients), round))) as pack:
            for client in clients.tolist():
                pack.add(client, round, _load(files[client]))
    remove_old(folder)


def remove_old(folder: Path) -> None:
    """Remove the files of earlier versions, and their folders if they are empty then."""
    for path, _ in _old_files(folder):
        path.unlink(missing_ok=True)
        with suppress(OSError):  # a folder with other files stays
            path.parent.rmdir()


def _old_files(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    """The files that earlier versions wrote, including incomplete ones, with the matches of their names."""
    paths = folder.glob("[0-9]*/*.npy*")
    matches = ((path, OLD.fullmatch(f"{path.parent.name}/{path.name}")) for path in paths)
    return [(path, match) for path, match in matches if match]


def _load(path: Path) -> Tensor:
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False)).float()
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path}, the vector of a client, cannot be read ({error}); restore it from a copy, or remove it, and the "
            "client continues from another one"
        ) from error
