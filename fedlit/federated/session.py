"""The objects that exist from a fit's start to its end."""

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
    """Made when a fit begins and closed when it ends; a second fit of the same objects makes another.

    Attributes:
        site: Where clients are trained.
        client: The local problem.
        engine: What trains them: the one that was named, or the one that suits.
        store: What clients keep from round to round; None where the algorithm keeps nothing.
        folder: A temporary folder for the store, where the run has no folder of its own.
        fixed: What the server is made of.
        draws: What puts the global generators back at the end.
        note: Why it is this engine, where none was named.
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
        """End the engine's processes and remove what was temporary."""
        self.engine.close()
        if self.folder is not None:
            self.folder.cleanup()
        self.draws.close()
