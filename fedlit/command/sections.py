"""The sections of a config."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fedlit.command.trainer import Trainer
from fedlit.federated import FederatedLoop, FederatedModule

#: Sections and whose arguments they are.
OWNERS = {"federation": FederatedLoop, "model": FederatedModule, "trainer": Trainer}


def shortened(settings: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys by their last word where no other key ends in it, class paths by the class."""
    words = Counter(key.rpartition(".")[2] for key in settings)
    short = {key: word if words[word := key.rpartition(".")[2]] == 1 else key for key in settings}
    return {short[k]: v.rpartition(".")[2] if isinstance(v, str) else v for k, v in settings.items()}
