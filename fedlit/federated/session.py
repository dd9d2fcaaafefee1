"""The objects that exist during a fit."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from fedlit.clients.client import ClientModule
from fedlit.clients.store import ClientStore
from fedlit.engines.engine import Engine
from fedlit.engines.site import Site
from fedlit.federated.fixed import FixedParts


@dataclass(frozen=True)
class Session:
    """Made when a fit begins; when it ends, ``resources`` are closed. A second fit of the same objects makes a new one.

    Attributes:
        site: Data, device and precision.
        client: The local problem.
        engine: The engine that was given, or the one that was chosen.
        fixed: The parts of the server that must not be replaced.
        resources: Closing it closes the engine, restores the global generators and removes a temporary folder.
        store: The vectors that clients keep from round to round; None if the algorithm keeps none.
        note: Why this engine was chosen; empty if it was given.
    """

    site: Site
    client: ClientModule
    engine: Engine
    fixed: FixedParts
    resources: ExitStack
    store: ClientStore | None = None
    note: str = ""
