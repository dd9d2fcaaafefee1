"""Real sites: the same federation over Flower (https://flower.ai), with the extra ``fedlit[flower]``.

A config names ``Sites`` and ``FlowerEngine``; ``fedlit sites new DIR`` writes a project with both that ``flwr run`` can
run. Nothing outside of this package depends on Flower, and Flower is imported only when it is needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedlit.flower.engine import FlowerEngine as FlowerEngine
    from fedlit.flower.sites import Sites as Sites

_HOME_OF = {"FlowerEngine": "engine", "Sites": "sites"}
__all__ = ["FlowerEngine", "Sites"]


def __getattr__(name: str) -> Any:
    """Load a name on first use, so that a site's relay process does not import torch."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
