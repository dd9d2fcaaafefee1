"""The data of a federation of real sites at the server, which knows how many examples each site has, but no example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn
from uuid import uuid4

import numpy as np

from fedlit.core.errors import InputError
from fedlit.core.seeding import resolve_seed
from fedlit.data.convert import channel_stats
from fedlit.data.describe import describe
from fedlit.data.examples import Batches, Examples
from fedlit.data.fingerprint import contents_of
from fedlit.data.module import FederatedData
from fedlit.data.partition import Partition, offsets_of
from fedlit.data.partitioners import Uniform
from fedlit.data.tensors import InMemory
from fedlit.flower.frame import Frame, Value, pack
from fedlit.flower.grid import connection
from fedlit.flower.identity import differences, inputs_of
from fedlit.flower.kinds import GREETING
from fedlit.flower.link import Link
from fedlit.flower.site_data import refuse_own_conversion
from fedlit.flower.wire import Terms

#: The longest name of a site.
MOST_NAME = 60
ELSEWHERE = "the examples of the clients are at the sites; use federation.engine fedlit.flower.FlowerEngine"


class Sites(FederatedData):
    """Real sites, each of which holds the data of one client; the server holds a test set.

    Client k is the site whose name is at position k of ``sites``. When a fit begins, all sites introduce themselves;
    one that does not match is refused by name. Their examples stay at the sites: the server learns only their number.
    Inputs are normalised with the server's mean and standard deviation.

    Args:
        sites: Names of the sites, under which their keys are registered: ``flwr supernode register KEY --name NAME``.
        held_out: The server's own data, whose test set evaluates the global model. If an ``.npz`` file does not mark
            rows for testing, all rows are used.
        mean: Mean of uint8 inputs in units of [0, 1], one number or one for each channel; None measures it on the
            training examples of ``held_out``, if it has any.
        std: Standard deviation, like ``mean``.
        registered: Whether a site's key must be registered under its name. False accepts the name that a site states;
            use it only if everyone who can reach the server is trusted.
        wait_s: Seconds to wait for the sites when a fit begins.
        batch_size: Examples in a site's training batch.
        eval_batch_size: See ``fedlit.data.FederatedData``.
        seed: Seed of the draw of ``client_holdout``; None takes that of ``seed_everything``.
        client_holdout: See ``fedlit.data.FederatedData``; each site draws its own examples.
    """

    has_examples = False

    def __init__(
        self,
        sites: list[str],
        held_out: FederatedData,
        mean: float | list[float] | None = None,
        std: float | list[float] | None = None,
        registered: bool = True,
        wait_s: float = 600.0,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        seed: int | None = None,
        client_holdout: float = 0.0,
    ) -> None:
        super().__init__(
            batch_size=batch_size, eval_batch_size=eval_batch_size, seed=seed, client_holdout=client_holdout
        )
        for name in sites:
            if not name.isprintable() or not 0 < len(name) <= MOST_NAME or sites.count(name) > 1:
                raise InputError(
                    f"data.sites has {name[:MOST_NAME]!r}; every name must be there once and have 1 to "
                    f"{MOST_NAME} characters"
                )
        if not sites:
            raise InputError("data.sites is empty; give it the names of the sites")
        if not 0 < wait_s < 1e9:
            raise InputError(f"data.wait_s must be > 0, got {wait_s}; 600 is the default")
        refuse_own_conversion(held_out, "data.held_out")
        self.sites, self.held_out, self.registered, self.wait_s = sites, held_out, registered, wait_s
        self._given_mean, self._given_std = mean, std
        self._link: Link | None = None
        self.federation = ""

    @property
    def class_names(self) -> list[str]:
        return self.held_out.class_names

    @property
    def in_channels(self) -> int:
        return self.held_out.in_channels

    @property
    def link(self) -> Link:
        """The connection to the sites, after the setup for a fit.

        Raises:
            InputError: Before that.
        """
        if self._link is None:
            raise InputError(ELSEWHERE)
        return self._link

    @property
    def terms(self) -> Terms:
        """The settings that the sites are sent; known after ``setup``."""
        return Terms(
            self.batch_size,
            float(self.client_holdout),
            self.seed,
            [*self.class_names],
            self.in_channels,
            len(self.sites),
            self.mean,
            self.std,
        )

    def load(self) -> tuple[Examples, Examples]:
        """The server's examples: a few test examples as a stand-in for training examples, and the test set."""
        train, test = self._held_out()
        if test.inputs.dtype.is_floating_point or test.inputs.element_size() > 1:
            self.mean, self.std = 0.0, 1.0  # tokens and numbers are not normalised
        else:
            self.mean, self.std = self._statistics(train)
        return test.take(np.arange(min(2, len(test)))), test

    def setup(self, stage: str | None = None) -> None:
        """Read the test set; for a fit, ask the sites to introduce themselves."""
        if stage == "fit" or not self.is_set_up:
            self._take_arguments()
            self._refuse_others_arguments()
        seed = resolve_seed(self._requested_seed)
        if self.is_set_up and stage != "fit":
            return
        self.seed, self.num_clients = seed, len(self.sites)
        self.train, self.test = self.load()
        self.contents = contents_of(None, self.test, self.transform)
        self.notes = [*dict.fromkeys(self.held_out.notes)]
        sizes = np.zeros(len(self.sites), dtype=np.int64)
        if stage == "fit":
            self.federation = uuid4().hex
            sizes = self._meet()
        self.partition = Partition(np.arange(sizes.sum()), offsets_of(sizes))
        self._made = {name: getattr(self, name) for name in self._arguments}
        self.is_set_up = True

    def _refuse_others_arguments(self) -> None:
        """Refuse arguments of other data modules that were set as attributes."""
        was_set = {
            "num_clients": self._requested_clients not in (None, len(self.sites)),
            "partition": type(self.partitioner) is not Uniform,
            "validation_clients": self.validation_clients > 0,
            "augment": self.augmentation is not None,
        }
        for name in (name for name, is_set in was_set.items() if is_set):
            raise InputError(f"{name} was set, but each site is a client with its own examples; do not set it on Sites")

    def _meet(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Sizes n_k of the sites, (K,)."""
        values, blobs = self.terms.parts()
        greeting = pack(Frame(GREETING.name, values, blobs))
        self._link = Link(connection(), self.sites, self.registered, greeting)
        self._link.meet(self.wait_s)
        self.refuse_others({"inputs": inputs_of(self.test)})
        sizes = [int(self.link.introductions[name]["examples"]) for name in self.sites]  # type: ignore[arg-type]
        (line, *_) = describe(self.test, self.test, self.class_names, self.mean, self.std)
        self.tell(
            f"data: {len(self.test):,} held-out examples of {self.num_classes:,} classes;{line.partition(';')[2]}"
        )
        self.tell(f"sites: {', '.join(f'{name} ({size:,})' for name, size in zip(self.sites, sizes, strict=True))}")
        return np.array(sizes)

    def refuse_others(self, here: Mapping[str, Value]) -> None:
        """Refuse sites that do not match the server.

        Args:
            here: The server's values for some keys of ``fedlit.flower.identity.SAME``.

        Raises:
            InputError: Naming the sites and the differences.
        """
        found, classes = self.link.introductions, [*self.class_names]
        if wrong := [f"site {name}: {line}" for name in self.sites for line in differences(found[name], here, classes)]:
            raise InputError("; ".join(wrong))

    def _held_out(self) -> tuple[Examples | None, Examples]:
        """The server's training examples, if it has any, and its test set."""
        own = self.held_out
        if isinstance(own, InMemory) and own.test_fraction is None:
            source = own.read()
            return (None, source.train) if source.test is None else (source.train, source.test)
        own.seed = self.seed
        return own.load()

    def _statistics(self, train: Examples | None) -> tuple[Any, Any]:
        if self._given_mean is not None and self._given_std is not None:
            return self._given_mean, self._given_std
        if train is None:
            raise InputError(
                "data.mean and data.std are not given, and the server has no training examples to measure them; give "
                "both, in units of [0, 1]"
            )
        measured = channel_stats(train.inputs)
        given = (self._given_mean, self._given_std)
        return tuple(own if own is not None else found for own, found in zip(given, measured, strict=True))  # type: ignore[return-value]

    def identity(self) -> dict[str, Any]:
        """The sites and, during a fit, the number of their examples and hashes of these."""
        found = {name: self.link.introductions[name] for name in self.sites} if self._link else {}
        sizes = {f"number of training examples of site {name}": said["examples"] for name, said in found.items()}
        hashes = {f"hash of the data of site {name}": said["data"] for name, said in found.items()}
        return {"list of sites": ", ".join(self.sites), **sizes, **hashes}

    def state_dict(self) -> dict[str, Any]:
        """The name by which the sites know the run."""
        return {"federation": self.federation}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.federation = state_dict["federation"]

    def client_batches(self, client: int, round: int, seed: int) -> NoReturn:
        raise InputError(ELSEWHERE)

    def client_eval_batches(self, client: int) -> NoReturn:
        raise InputError(ELSEWHERE)

    def client_holdout_batches(self, client: int) -> Batches | None:
        raise InputError(ELSEWHERE)

    def class_counts(self, client: int) -> NoReturn:
        raise InputError(ELSEWHERE)
