"""The interface of engines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from fedlit.clients.client import ClientModule
from fedlit.core.records import ClientAnswer, ClientTask
from fedlit.engines.site import Site


class Engine(ABC):
    """A way to train a share of a cohort.

    Engines differ in speed, never in what they compute: they agree with ``TrainerEngine`` to the bit, or to rounding if
    they batch clients together. An engine of a user's class is compared with it before the first round, and refused if
    it differs; its answers are checked in each round.

    Attributes:
        together: The most clients that are trained as one program. A client's bits may depend on this number and on
            the other clients of its program.
    """

    together: int = 1

    @abstractmethod
    def run(self, client: ClientModule, tasks: Sequence[ClientTask], site: Site) -> Iterator[ClientAnswer]:
        """Fit each task's client from the broadcast model and yield its update, in any order.

        For a client whose fit raises or runs out of memory, a ``ClientFailure`` is yielded (see ``attempt``), and the
        other clients' updates are not affected. Errors that concern the whole run are raised.

        Args:
            client: The local problem, which has received this round's broadcast.
            tasks: The clients to train; may be empty.
            site: Data, device and precision; training steps are within ``site.precision.forward_context()``.
        """

    def check(self, client: ClientModule, site: Site) -> None:  # noqa: B027
        """Refuse, before training, a local problem that this engine cannot train correctly.

        Raises:
            InputError: Naming what the engine does not support, and the remedy.
        """

    def close(self) -> None:  # noqa: B027
        """Release resources that are kept between rounds; the engine can run again."""
