"""The section with data, federation, network and machine, and with the changes of each axis of the study."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from fedlit.report.analysis import Analysis
from fedlit.report.collect import DIVISION, Study
from fedlit.report.document import Element, Table
from fedlit.report.run import Run
from fedlit.runs.setting import origins
from fedlit.runs.words import lookup

UNKNOWN = "not recorded"
#: Arguments of classes that do not affect the result.
UNSAID = ("root", "download", "foreach", "fused", "differentiable", "maximize")
#: At most this many different values are listed; else only their number.
MOST_VALUES = 6


def setting(found: Analysis) -> Iterable[Element]:
    """The table, for runs that have a config."""
    study = found.study
    places = {(v, p): i for i, (v, p) in enumerate(product(study.variants, study.partitions))}
    runs = sorted((run for run in study.runs if run.config), key=lambda run: places[run.variant, run.partition])
    if not runs:
        return
    rows = [(name, value) for name, of in FACTS.items() if (value := told(runs, of))]
    rows += [("network", _network(runs))]
    rows += [("numbers in the model", _sizes(found))] if "values" in found.measured else []
    rows += [(name, value) for name, of in MADE_WITH.items() if (value := told(runs, of))]
    rows += [("seeds", _listed(study.seeds)), *_axes(study)]
    yield Table(("", ""), {"": rows}, words=2, wide=True)


def told(runs: Iterable[Run], of: Callable[[Run], str]) -> str:
    """The common value of all runs, else the values by variant or by partition if one of these determines them."""
    owners: dict[str, list[Run]] = {}
    for run in runs:
        owners.setdefault(of(run), []).append(run)
    if len(owners) == 1:
        return next(iter(owners))
    for attribute in ("variant", "partition"):
        named = [list(dict.fromkeys(getattr(run, attribute) for run in each)) for each in owners.values()]
        if sum(map(len, named)) == len({name for each in named for name in each}):
            pairs = zip(owners, named, strict=True)
            return "; ".join(f"{value or 'none'} ({', '.join(each)})" for value, each in pairs)
    if len(owners) > MOST_VALUES:
        return f"{len(owners)} different values"
    return " or ".join(value or "none" for value in owners)


def in_short(tree: Any) -> str:
    """A part of a config in short form: a class with the arguments that are set, such as ``SGD(lr=0.1)``."""
    if isinstance(tree, Mapping) and "class_path" in tree:
        name = str(tree["class_path"]).rsplit(".", 1)[-1]
        arguments = tree.get("init_args") or {}
        said = [f"{key}={in_short(value)}" for key, value in arguments.items() if _is_said(key, value)]
        return f"{name}({', '.join(said)})" if said else name
    if isinstance(tree, Mapping):
        return ", ".join(f"{key}={in_short(value)}" for key, value in tree.items())
    if isinstance(tree, list):
        return f"[{', '.join(map(in_short, tree))}]"
    return f"{tree:g}" if isinstance(tree, float) else str(tree)


def _is_said(key: str, value: Any) -> bool:
    return key not in UNSAID and value is not None and value is not False and not (value == 0 and value is not True)


def _data(run: Run) -> str:
    data = lookup(run.config, "data")
    arguments = lookup(data, "init_args")
    if not isinstance(arguments, Mapping):
        return in_short(data) if data else UNKNOWN
    kept = {key: value for key, value in arguments.items() if key not in DIVISION}
    return in_short({"class_path": lookup(data, "class_path") or "data", "init_args": kept})


def _clients(run: Run) -> str:
    return str(run.clients or lookup(run.config, "data", "init_args", "num_clients") or UNKNOWN)


def _origin(said: Callable[[Mapping[str, str]], str]) -> Callable[[Run], str]:
    """A fact about a run's versions or machine, with later values if the run was resumed with others."""

    def of(run: Run) -> str:
        return ", then ".join(dict.fromkeys(filter(None, map(said, origins(run.folder))))) or UNKNOWN

    return of


def _versions(made_with: Mapping[str, str]) -> str:
    return ", ".join(
        f"{n} {made_with[n]}" for n in ("fedlit", "python", "torch", "lightning", "numpy") if n in made_with
    )


def _machine(made_with: Mapping[str, str]) -> str:
    cores = f"{made_with['cores']} cores" if "cores" in made_with else ""
    return ", ".join(filter(None, (made_with.get("processor"), cores, made_with.get("gpu"))))


def _at(*keys: str) -> Callable[[Run], str]:
    """A value of the config; empty if it is not set."""

    def of(run: Run) -> str:
        value = lookup(run.config, *keys)
        return "" if value is None else in_short(value)

    return of


#: Rows of the table from the runs' configs.
FACTS: dict[str, Callable[[Run], str]] = {
    "data": _data,
    "partition": _at("data", "init_args", "partition"),
    "clients": _clients,
    "clients a round": _at("federation", "clients_per_round"),
    "local epochs": _at("federation", "local_epochs"),
    "stragglers": _at("federation", "stragglers"),
    "algorithm": _at("federation", "algorithm"),
    "averaging": _at("federation", "averaging"),
    "mu": _at("model", "mu"),
    "clients' optimizer": _at("model", "client_optimizer"),
    "server's optimizer": _at("model", "server_optimizer"),
    "batch size": _at("data", "init_args", "batch_size"),
    "rounds": lambda run: str(run.asked or UNKNOWN),
}
#: Rows of the table about versions and machine.
MADE_WITH: dict[str, Callable[[Run], str]] = {
    "versions": _origin(_versions),
    "commit": _origin(lambda made_with: made_with.get("commit", "")),
    "machine": _origin(_machine),
}


def _network(runs: Sequence[Run]) -> str:
    """The networks' classes, with the arguments that all runs of a class share."""
    nets: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        net = lookup(run.config, "model", "net")
        arguments = lookup(net, "init_args")
        nets.setdefault(in_short(lookup(net, "class_path") or net or UNKNOWN), []).append(
            arguments if isinstance(arguments, Mapping) else {}
        )
    shared = {
        name: {key: value for key, value in all_given[0].items() if all(given.get(key) == value for given in all_given)}
        for name, all_given in nets.items()
    }
    return " or ".join(in_short({"class_path": name, "init_args": arguments}) for name, arguments in shared.items())


def _listed(seeds: Sequence[int]) -> str:
    first, last = seeds[0], seeds[-1]
    if len(seeds) > 3 and list(seeds) == list(range(first, last + 1)):
        return f"{first} to {last}"
    return ", ".join(map(str, seeds))


def _sizes(found: Analysis) -> str:
    """Parameters and buffers of each variant's model."""
    sizes = found.measured.groupby("variant", sort=False)["values"].median().dropna()
    by_size: dict[str, list[str]] = {}
    for variant, size in sizes.items():
        by_size.setdefault(f"{size:,.0f}", []).append(str(variant))
    if len(by_size) == 1:
        return next(iter(by_size))
    return "; ".join(f"{size} ({', '.join(variants)})" for size, variants in by_size.items())


def _axes(study: Study) -> Iterable[tuple[str, str]]:
    """The changes of each value of each axis to the base config."""
    axes = lookup(study.record, "file", "axes")
    for axis, values in axes.items() if isinstance(axes, Mapping) else ():
        if isinstance(values, Mapping):
            yield f"axis {axis}", "; ".join(f"**{name}**: {_changes(changes)}" for name, changes in values.items())


def _changes(changes: Any) -> str:
    if not isinstance(changes, Mapping) or not changes:
        return "as the base config"
    return ", ".join(f"`{key}` {in_short(value)}" for key, value in changes.items())
