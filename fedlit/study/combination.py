"""One value of each axis of a study: the arguments for ``fedlit fit``, and the config that they make."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from fedlit.command.fit import FedlitCLI
from fedlit.core.configs import all_strings
from fedlit.core.errors import InputError
from fedlit.core.messages import find_input_error, one_line
from fedlit.runs.changes import PLACE
from fedlit.study.overrides import (
    ambiguous_texts,
    as_arguments,
    as_values,
    merged,
    names_of_value,
    without_literal_quotes,
)
from fedlit.study.seeds import is_count

#: Settings that a combination does not determine: where a run is kept, and its seed.
SET_FOR_EACH_RUN = (*PLACE, "seed_everything")


@dataclass(frozen=True)
class Combination:
    """One value of each axis.

    Args:
        name: The names of the values, joined by ``_``.
        values: The name of the value on each axis, by axis.
        arguments: The changes as arguments for ``fedlit fit``.
        rounds: The number of rounds of each run.
        config: The config of its runs with all defaults, without `SET_FOR_EACH_RUN`.
    """

    name: str
    values: Mapping[str, str] = field(compare=False)
    arguments: tuple[str, ...]
    rounds: int
    config: dict[str, Any] = field(compare=False)


class Rehearsal(FedlitCLI):
    """``fedlit fit`` without its Trainer: parses the config, makes data, net and federation, and writes no file."""

    def seed(self) -> None:
        """Do nothing: there is no run."""

    def before_instantiate_classes(self) -> None:
        """Do nothing: there is no folder."""

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        return None

    def run(self, command: str) -> None:
        """Do nothing: only the config is needed."""

    def saved_config(self) -> dict[str, Any]:
        """The config as it would be read from a run's ``config.yaml``."""
        return dict(yaml.safe_load(self.command_parser.dump(self.config[self.subcommand], skip_none=False)))


def combination(
    name: str,
    values: Mapping[str, str],
    base: Path,
    changes: Mapping[str, Any],
    dicts: Mapping[str, dict[str, Any]],
    seed: int,
) -> Combination:
    """A combination of changes, by dotted keys.

    A dict that is the value of an argument replaces the base's. Whether it is one, or a part of the config as any other
    mapping, is known from the config that the parser makes.

    Args:
        name, values, base: As in `Combination` and `Plan`.
        changes: The changes.
        dicts: The mappings that were written for these changes, see `dicts_in`.
        seed: A seed to check them with.
    """
    arguments, config = _parsed(name, base, changes, seed)
    if found := merged(dicts, config):
        replaced = _parsed(name, base, as_values(changes, found), seed)
        if all(names_of_value(replaced[1], path) < names_of_value(config, path) for path in found):
            arguments, config = replaced
    rounds = config["trainer"]["max_epochs"]
    if not is_count(rounds, 1):
        raise InputError(f"{name}: a study needs a number of rounds >= 1, got {rounds}; give rounds:")
    return Combination(
        name, values, arguments, rounds, {key: config[key] for key in config if key not in SET_FOR_EACH_RUN}
    )


def _parsed(name: str, base: Path, changes: Mapping[str, Any], seed: int) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The arguments for a combination's changes, and the config that they make.

    Some arguments read a text such as ``no`` as it is, others read it as YAML and need quotes. So the arguments are
    first tried without quotes, then with them, and then without those that became part of a text.
    """
    arguments, config = tuple(chain(*as_arguments(changes, quoted=False))), None
    ambiguous = ambiguous_texts(changes)
    with suppress(InputError) if ambiguous else nullcontext():
        config = _rehearsed(name, base, arguments, seed)
    if config is None or not ambiguous <= set(all_strings(config)):
        arguments = tuple(chain(*as_arguments(changes)))
        config = _rehearsed(name, base, arguments, seed)
        if (unquoted := without_literal_quotes(arguments, config)) != arguments:
            arguments, config = unquoted, _rehearsed(name, base, unquoted, seed)
    return arguments, config


def _rehearsed(name: str, base: Path, arguments: tuple[str, ...], seed: int) -> dict[str, Any]:
    """The config of a combination, checked by making all objects that a run makes before its Trainer.

    Raises:
        InputError: With the combination's name, if ``fedlit fit`` would refuse the config.
    """
    try:
        return Rehearsal(["fit", "--config", str(base), *arguments, "--seed_everything", str(seed)]).saved_config()
    except Exception as error:
        mistake = find_input_error(error)
        if mistake is None:
            raise
        raise InputError(f"{name}: {one_line(str(mistake))}") from error
