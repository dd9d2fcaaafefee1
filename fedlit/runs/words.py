"""A run's config in a few words: for its first line, for tables of runs and for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Keys of the config that are described by a word, and whether the word includes the first numeric argument.
FACTS = {
    "data": (("data",), False),
    "clients": (("data", "init_args", "num_clients"), False),
    "partition": (("data", "init_args", "partition"), True),
    "net": (("model", "net"), False),
    "attention": (("model", "net", "init_args", "attention"), False),
    "mu": (("model", "mu"), True),
    "optimizer": (("model", "client_optimizer"), True),
    "algorithm": (("federation", "algorithm"), False),
    "a round": (("federation", "clients_per_round"), False),
    "local epochs": (("federation", "local_epochs"), False),
    "rounds": (("trainer", "max_epochs"), False),
    "seed": (("seed_everything",), False),
}


def facts(config: Any) -> dict[str, str]:
    """Short descriptions of a run's settings, by the names of ``FACTS``; missing settings are left out.

    A class is described by its name; a partition, a rule for mu and an optimizer also by their first numeric argument:
    ``Dirichlet 0.5``.
    """
    return {
        name: word
        for name, (keys, with_number) in FACTS.items()
        if (word := in_a_word(lookup(config, *keys), with_number))
    }


def lookup(tree: Any, *keys: str) -> Any:
    """The value at a path in nested mappings, or None."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def in_a_word(value: Any, with_number: bool = False) -> str:
    """A value of a config as text: a number, the name of a class, or the names of a list of classes; empty for none."""
    if isinstance(value, list):
        return " + ".join(filter(None, (in_a_word(each, with_number) for each in value)))
    if isinstance(value, Mapping):
        path, arguments = value.get("class_path"), value.get("init_args")
        name = in_a_word(path) if isinstance(path, str) else ""
        first = next(iter(arguments.values()), None) if isinstance(arguments, Mapping) else None
        return f"{name} {in_a_word(first)}" if name and with_number and _is_number(first) else name
    if _is_number(value):
        return f"{value:g}" if isinstance(value, float) else str(value)
    return value.rpartition(".")[2] if isinstance(value, str) else ""


def opening(config: Any, clients: int, engine: str) -> str:
    """A line about a run: data, clients and cohort, network and attention, mu, rounds and engine.

    Args:
        config: The run's config, as read from YAML.
        clients: The number of clients.
        engine: The name of the engine.
    """
    found = facts(config)
    partition = found.get("partition", "Uniform")
    net = " with ".join(found[name] for name in ("net", "attention") if name in found)
    said = [f"{found.get('data', 'data')}, {clients} clients ({partition})"]
    said += [f"{found['a round']} a round"] if "a round" in found else []
    said += [net] if net else []
    said += [f"{name} {found[name]}" for name in ("mu", "algorithm") if name in found]
    said += [f"{found['rounds']} round{'' if found['rounds'] == '1' else 's'}"] if "rounds" in found else []
    return ", ".join([*said, engine])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
