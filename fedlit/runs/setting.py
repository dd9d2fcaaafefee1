"""Records the versions and the machine of a run, and which labels each client holds."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer

from fedlit.core.bins import bin_names
from fedlit.core.files import atomic_write, require_regular
from fedlit.core.origin import owner_of
from fedlit.core.tables import write_table
from fedlit.data.module import FederatedData, data_of
from fedlit.data.skew import label_counts

ORIGIN = "origin.json"
LABELS = "labels.csv"
#: The folder that contains fedlit's package: a checkout, or site-packages.
ROOT = Path(__file__).parents[2]
PACKAGES = ("fedlit", "torch", "lightning", "numpy")
#: The entry with the precision in which a run was trained, which ``trainer.precision: auto`` leaves to the machine.
PRECISION = "precision"
#: Number of digits that are kept of a hash.
DIGITS = 8
#: Labels are counted for at most this many clients, the first ones.
MOST_CLIENTS = 1000


class Setting(Callback):
    """Writes into the run folder at the start: ``origin.json`` and ``labels.csv``.

    ``origin.json`` lists versions, fedlit's commit, hashes of the user's own modules, system, processor, GPU and
    precision, with another entry if they have changed on a resume. ``labels.csv`` has a row for each of the first
    ``MOST_CLIENTS`` clients, with its number of examples of each class.

    Args:
        folder: The run's folder; None writes nothing, as on ranks other than the first.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._folder is None or not trainer.is_global_zero:
            return
        before, now = origins(self._folder), {**origin(), PRECISION: str(trainer.precision)}
        if before[-1:] != [now]:
            with atomic_write(self._folder / ORIGIN) as file:
                file.write(json.dumps([*before, now], indent=1) + "\n")
        if (data := data_of(trainer)).has_examples:  # else the examples are at the clients
            write_labels(self._folder / LABELS, data)


def origin() -> dict[str, str]:
    """Versions, fedlit's commit where it runs from a checkout, the user's own code, and the machine."""
    found = {name: _version(name) for name in PACKAGES}
    found |= {"commit": _commit(), "python": platform.python_version(), "system": platform.system()}
    found |= {"processor": processor(), "cores": str(os.cpu_count())}
    found |= {"own code": ", ".join(f"{name} {digest}" for name, digest in own_code().items())}
    found |= {"gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else ""}
    return {name: value for name, value in found.items() if value}


def own_code() -> dict[str, str]:
    """The user's modules that are loaded: the first digits of the SHA-256 of each file, by the module's name."""
    found = {}
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str) and file.endswith(".py") and owner_of(file) == "user":
            with suppress(OSError):
                found[name] = sha256(Path(file).read_bytes()).hexdigest()[:DIGITS]
    return found


def own_code_of(run: Path) -> list[tuple[str, str]]:
    """Names and hashes of the user's modules, as a run recorded them at its start and at each resume."""
    parts = (part.partition(" ") for each in origins(run) for part in each.get("own code", "").split(", "))
    return [(name, digest) for name, _, digest in parts if digest]


def precisions_of(run: Path) -> list[str]:
    """The precisions in which a run was trained, the latest last; empty for a run of an earlier version."""
    return list(dict.fromkeys(each[PRECISION] for each in origins(run) if PRECISION in each))


def origins(run: Path) -> list[dict[str, str]]:
    """The entries of ``origin.json``, the latest last; empty for a run of an earlier version."""
    with suppress(OSError, ValueError, RecursionError):
        entries = json.loads(require_regular(run / ORIGIN).read_text())
        if isinstance(entries, list) and all(isinstance(each, dict) for each in entries):
            return [{str(name): str(value) for name, value in each.items()} for each in entries]
    return []


def write_labels(path: Path, data: FederatedData) -> None:
    """Write how many examples of each class, or bin of classes, each client has."""
    counts = label_counts(data, MOST_CLIENTS).tolist()
    write_table(path, ["client", *bin_names(data.class_names)], ([k, *row] for k, row in enumerate(counts)))


def _version(package: str) -> str:
    with suppress(PackageNotFoundError):
        return version(package)
    return ""


def _commit() -> str:
    """The commit of the checkout that fedlit runs from; empty if it is installed."""
    if not (ROOT / ".git").exists():
        return ""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(words, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return ""


def processor() -> str:
    """The processor's name, as the system gives it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
