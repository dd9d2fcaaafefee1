"""Builds a site's data and local problem from its own file and the config of the federation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import lightning
import torch

from fedlit.clients.client import ClientModule
from fedlit.command.arguments import FederationArguments
from fedlit.command.classes import NAMED_SHORTLY, load
from fedlit.command.parser import Parser
from fedlit.core.errors import InputError
from fedlit.core.messages import find_input_error, one_line
from fedlit.data.module import FederatedData
from fedlit.federated import FederatedLoop, FederatedModule
from fedlit.flower.place import Place
from fedlit.flower.site_data import Described
from fedlit.flower.trainer_of_site import SiteTrainer
from fedlit.flower.wire import Terms

#: Arguments of a site's data without an effect there: the server says how its sites train.
OF_SERVER = ("batch_size", "eval_batch_size", "client_holdout", "validation_clients", "mean", "std")

#: Options that turn off parts of the server's config that a site does not need.
WITHOUT = ("--trainer.callbacks", "null", "--trainer.logger", "false")


class Problem(FederationArguments):
    """The ``model`` and ``federation`` of a config, without a Trainer."""

    loop: FederatedLoop

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:
        self.loop = self.config_init[self.subcommand].federation
        return None  # type: ignore[return-value]

    def run(self, command: str) -> None:
        """Do nothing: a site trains when the server asks."""


def built(place: Place, words: Sequence[str]) -> SiteTrainer:
    """The trainer of a site.

    Args:
        place: The site's own file.
        words: The arguments of ``fedlit fit`` at the server: ``--config`` with its file, and changes to it.
    """
    torch.set_num_threads(place.threads)
    return SiteTrainer(place, partial(own_data, place), partial(client_of, words))


def own_data(place: Place) -> FederatedData:
    """The site's data, as its file names them.

    Raises:
        InputError: If they cannot be made, or an argument has no effect.
    """
    if unused := [name for name in OF_SERVER if name in (place.data.get("init_args") or {})]:
        raise InputError(
            f"{place.path.name}: data.{unused[0]} has no effect at a site, as the server's settings count; leave it out"
        )
    load(NAMED_SHORTLY)
    parser = Parser()
    parser.add_subclass_arguments(FederatedData, "data", fail_untyped=False)
    try:
        made = parser.instantiate_classes(parser.parse_object({"data": dict(place.data)}))
    except Exception as error:
        raise InputError(f"{place.path.name}: data: {one_line(str(find_input_error(error) or error), 200)}") from error
    return made.data  # type: ignore[no-any-return]


def client_of(words: Sequence[str], terms: Terms) -> ClientModule:
    """The local problem of a config, made as by ``FederatedModule.make_client`` at the server."""
    described = ["--data", "fedlit.flower.site_data.Described", "--data.classes", str(len(terms.classes))]
    made = Problem(["fit", *words, *described, "--data.channels", str(terms.channels), *WITHOUT])
    module, loop = made.model, made.loop
    assert isinstance(module, FederatedModule)
    loop.algorithm.prepare(loop.facts(module, Described(len(terms.classes), terms.channels, terms.clients)))
    return module.client_with(loop.algorithm)
