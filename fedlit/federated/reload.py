"""Reads the arguments of a trained module from its run's config, for use without a Trainer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from fedlit.core.configs import read_yaml
from fedlit.core.errors import InputError
from fedlit.core.messages import find_input_error, one_line
from fedlit.data.module import FederatedData

CONFIG = "config.yaml"
#: Arguments of a net that are set from the data.
DATA_ARGUMENTS = ("num_classes", "in_channels")


def config_of(checkpoint: Path) -> Path:
    """The config of a checkpoint's run, in the parent folder of the checkpoints' folder.

    Raises:
        InputError: If there is none.
    """
    config = checkpoint.resolve().parents[1] / CONFIG
    if not config.is_file():
        raise InputError(f"{config} does not exist, the config that {checkpoint} was trained with; give it, or the net")
    return config


def load_arguments(config: Path, module_class: type) -> tuple[dict[str, Any], FederatedData]:
    """The arguments of a module, and the data module (not set up), from a run's config.

    The classes that a config names are imported and called: a config is code.

    Args:
        config: The config in a run's folder, which has every argument.
        module_class: The class of the section ``model``.

    Raises:
        InputError: If the file is not such a config, or a class in it cannot be made.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(module_class, "model", instantiate=False, fail_untyped=False)
    parser.add_subclass_arguments(FederatedData, "data", required=True, fail_untyped=False)
    for name in DATA_ARGUMENTS:
        parser.link_arguments("data", f"model.net.init_args.{name}", compute_fn=attribute(name), apply_on="instantiate")
    tree = read_yaml(config)
    if not isinstance(tree, dict) or not {"model", "data"} <= tree.keys():
        raise InputError(
            f"{config} is not the config of a run, which has model: and data:; give the one in the run's folder"
        )
    try:
        made = parser.instantiate_classes(parser.parse_object({name: tree[name] for name in ("model", "data")}))
    except Exception as error:
        said = find_input_error(error) or one_line(str(error))
        raise InputError(f"{config}: {said}; provide the classes and files that the run was trained with") from error
    return dict(vars(made.model)), made.data


def accepted(kind: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments that a class takes, as a subclass need not take all of those of its base class."""
    parameters = inspect.signature(kind).parameters
    takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    return {name: value for name, value in arguments.items() if takes_all or name in parameters}


def attribute(name: str) -> Any:
    """A function from data to their attribute of this name."""

    def read(data: FederatedData) -> Any:
        return getattr(data, name)

    return read
