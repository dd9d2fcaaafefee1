"""Refuses a logger that would write all runs of a study to one place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fedlit.core.errors import InputError
from fedlit.runs.words import lookup

#: Arguments by which Lightning's loggers are given the place of a single run.
OF_ONE_RUN = ("version", "id", "run_id", "experiment_key")


def refuse_shared(configs: Iterable[Mapping[str, Any]], seeds: int) -> None:
    """Refuse a logger with a fixed place for a run if several runs have it, as their records would mix there.

    Args:
        configs: The config of each combination.
        seeds: How many runs each config has.

    Raises:
        InputError: Naming the logger and the argument.
    """
    users = Counter(place for config in configs for place in _places(config))
    for (path, key, value, _), times in users.items():
        if times * seeds > 1:
            raise InputError(
                f"trainer.logger: {path.rpartition('.')[2]} has {key} {value} in {times * seeds} runs of the study, "
                f"whose records would mix in one place; leave {key} out, or leave out the logger: each run's folder "
                "has TensorBoard's files and metrics.csv"
            )


def _places(config: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Class, argument, its value and all arguments of each logger that has the place of one run."""
    given = lookup(config, "trainer", "logger")
    for logger in given if isinstance(given, list) else [given]:
        arguments = lookup(logger, "init_args") or {}
        for key in OF_ONE_RUN:
            if arguments.get(key) is not None:
                yield str(logger["class_path"]), key, str(arguments[key]), repr(sorted(arguments.items()))
                break
