"""The sections of a config, and its settings by their keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from fedlit.command.trainer import Trainer
from fedlit.federated import FederatedLoop, FederatedModule

#: Sections, and the class whose arguments they have.
OWNERS = {"federation": FederatedLoop, "model": FederatedModule, "trainer": Trainer}


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config as one level of dotted keys; the key of a class is its parent's."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        path = prefix if key in ("init_args", "class_path") else f"{prefix}.{key}".strip(".")
        found |= flat(value, path) if isinstance(value, dict) else {path: value}
    return found


def shortened(settings: dict[str, Any]) -> dict[str, Any]:
    """Shorten dotted keys to their last word if it is unique, and class paths to the class name."""
    words = Counter(key.rpartition(".")[2] for key in settings)
    short = {key: word if words[word := key.rpartition(".")[2]] == 1 else key for key in settings}
    return {short[k]: v.rpartition(".")[2] if isinstance(v, str) else v for k, v in settings.items()}
