"""The objects that exist during a fit."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from tempfile import TemporaryDirectory

from fedlit.clients.client import ClientModule
from fedlit.clients.store import ClientStore
from fedlit.engines.engine import Engine
from fedlit.engines.site import Site
from fedlit.federated.fixed import FixedParts


@dataclass(frozen=True)
class Session:
    """Made when a fit begins and closed when it ends; a second fit of the same objects makes a new one.

    Attributes:
        site: Data, device and precision.
        client: The local problem.
        engine: The engine that was given, or the one that was chosen.
        store: The vectors that clients keep from round to round; None if the algorithm keeps none.
        folder: A temporary folder for the store, if the run has no folder of its own.
        fixed: The parts of the server that must not be replaced.
        draws: Restores the global generators at the end.
        note: Why this engine was chosen; empty if it was given.
    """

    site: Site
    client: ClientModule
    engine: Engine
    fixed: FixedParts
    draws: ExitStack
    store: ClientStore | None = None
    folder: TemporaryDirectory[str] | None = None
    note: str = ""

    def close(self) -> None:
        """Close the engine, remove the temporary folder and restore the global generators."""
        self.engine.close()
        if self.folder is not None:
            self.folder.cleanup()
        self.draws.close()
