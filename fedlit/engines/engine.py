"""How a share of a cohort is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from fedlit.clients.client import ClientModule
from fedlit.core.records import ClientAnswer, ClientTask
from fedlit.engines.site import Site


class Engine(ABC):
    """A way to train clients: one verb.

    Engines differ in speed, never in what they compute: they agree with ``TrainerEngine`` to the bit, or (where they
    batch clients together) to rounding.

    Attributes:
        together: The most clients that are trained as one program. Of any other number, or with other clients beside
            it, the same client may end with other bits.
    """

    together: int = 1

    @abstractmethod
    def run(self, client: ClientModule, tasks: Sequence[ClientTask], site: Site) -> Iterator[ClientAnswer]:
        """Fit each task's client from the broadcast model and yield its update, in any order.

        Of a client whose fit raises, or runs out of memory, a ``ClientFailure`` is yielded (``attempt`` makes one), and
        the others' updates are what they would be without it. Errors that concern the run as a whole are raised.

        Args:
            client: The local problem, which has received this round's broadcast.
            tasks: The clients to train; may be empty.
            site: Where they are trained: data, device and precision.
        """

    def check(self, client: ClientModule, site: Site) -> None:  # noqa: B027
        """Refuse, before training, a local problem that this engine would not get right.

        Raises:
            InputError: Naming what it does not run, with the remedy.
        """

    def close(self) -> None:  # noqa: B027
        """Release what is kept between rounds; the engine can run again."""
