"""What a trained module was made of, read from its run's config: for use without a Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from fedlit.core.configs import read_yaml
from fedlit.core.errors import InputError
from fedlit.core.messages import find_input_error, one_line
from fedlit.data.module import FederatedData

CONFIG = "config.yaml"
#: Arguments of a net that are the data's.
DATA_ARGUMENTS = ("num_classes", "in_channels")


def config_of(checkpoint: Path) -> Path:
    """The config of the run that a checkpoint is of: it lies beside the folder of the checkpoints.

    Raises:
        InputError: When there is none.
    """
    config = checkpoint.resolve().parents[1] / CONFIG
    if not config.is_file():
        raise InputError(f"no {config}, of which {checkpoint} was trained; give that config, or the net")
    return config


def load_arguments(config: Path, module_class: type) -> tuple[dict[str, Any], FederatedData]:
    """The arguments of a module and the data that a run's config names; the data are made, and not read yet.

    What a config names is imported and called: a config is code.

    Args:
        config: As a run has it, with every argument.
        module_class: Of which the section ``model`` is.

    Raises:
        InputError: When the file is no such config, or what it names cannot be made.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(module_class, "model", instantiate=False, fail_untyped=False)
    parser.add_subclass_arguments(FederatedData, "data", required=True, fail_untyped=False)
    for name in DATA_ARGUMENTS:
        parser.link_arguments("data", f"model.net.init_args.{name}", compute_fn=attribute(name), apply_on="instantiate")
    tree = read_yaml(config)
    if not isinstance(tree, dict) or not {"model", "data"} <= tree.keys():
        raise InputError(f"{config}: no config of a run, which has model: and data:; give the one in the run's folder")
    try:
        made = parser.instantiate_classes(parser.parse_object({name: tree[name] for name in ("model", "data")}))
    except Exception as error:
        said = find_input_error(error) or one_line(str(error))
        raise InputError(f"{config}: {said}; it needs what the run was trained with") from error
    return dict(vars(made.model)), made.data


def attribute(name: str) -> Any:
    """A function from data to what they have by this name."""

    def read(data: FederatedData) -> Any:
        return getattr(data, name)

    return read
