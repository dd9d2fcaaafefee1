"""The data of one site: its own examples as those of one client, while all other clients are empty."""

from __future__ import annotations

import numpy as np

from fedlit.core.errors import InputError
from fedlit.data.examples import Examples
from fedlit.data.module import FederatedData
from fedlit.data.partition import Partition, offsets_of
from fedlit.data.tensors import InMemory
from fedlit.flower.wire import Terms


class Described(FederatedData):
    """Data of which only the numbers of classes and channels are known, which is enough to build a network.

    Args:
        classes: Number of classes.
        channels: Channels of the inputs.
        clients: Number of clients.
    """

    def __init__(self, classes: int = 2, channels: int = 1, clients: int = 1) -> None:
        super().__init__()
        self._classes, self._channels, self.num_clients = classes, channels, clients

    def load(self) -> tuple[Examples, Examples]:
        raise InputError("these examples are at the sites; train there")

    @property
    def class_names(self) -> list[str]:
        return [str(number) for number in range(self._classes)]

    @property
    def in_channels(self) -> int:
        return self._channels


class OwnData(FederatedData):
    """The examples of one client with the server's settings: batch size, normalisation, held-out fraction.

    All other clients are empty, so that everything that is seeded by a client's number is the same as in a process with
    the data of all clients.

    Args:
        own: The site's data, of which the training examples are used. If an ``.npz`` file marks no rows for testing,
            all rows are for training.
        terms: The server's terms.
        client: This client's number, from 0.

    Attributes:
        own_names: The class names of the site's data; numbers if it has none.

    Raises:
        InputError: If a label has no name, or inputs would be converted otherwise than the site's data say.
    """

    def __init__(self, own: FederatedData, terms: Terms, client: int = 0) -> None:
        super().__init__(batch_size=terms.batch_size, client_holdout=terms.client_holdout, seed=terms.data_seed)
        self.mean, self.std = terms.mean, terms.std
        refuse_own_conversion(own, "the data of a site")
        examples = training_examples(own)
        self.own_names = [*own.class_names]
        if len(examples) and int(examples.targets.max()) >= len(self.own_names):
            raise InputError(f"label {int(examples.targets.max())} has no name among its {len(self.own_names)} classes")
        sizes = np.zeros(terms.clients, dtype=np.int64)
        sizes[client] = len(examples)
        self.seed, self.num_clients, self._names = terms.data_seed, terms.clients, terms.classes
        self.train, self.test = examples, examples.take(np.arange(min(2, len(examples))))
        self.partition = Partition(np.arange(len(examples)), offsets_of(sizes))
        if terms.client_holdout:
            self._hold_out_own()
        self.is_set_up = True

    def load(self) -> tuple[Examples, Examples]:
        return self.train, self.test

    @property
    def class_names(self) -> list[str]:
        return self._names


def refuse_own_conversion(data: FederatedData, which: str) -> None:
    """Refuse data that convert or augment their inputs, as the server's mean and std are all that is applied.

    Args:
        data: The data of a site, or those of the server.
        which: What messages call them.

    Raises:
        InputError: Naming the method or argument.
    """
    found = data.own_transform or ("an augmentation" if data.augmentation else "")
    if found:
        raise InputError(
            f"{which} have {found}, which has no effect in a federation of sites: inputs are only normalised by the "
            "server's mean and std; convert them in load, or before they are saved"
        )


def training_examples(data: FederatedData) -> Examples:
    """The examples on which a site trains."""
    if isinstance(data, InMemory) and data.test_fraction is None:
        return data.read().train
    data.setup("fit")
    return data.train
