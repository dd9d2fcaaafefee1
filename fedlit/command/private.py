"""What the command line uses of jsonargparse and of LightningCLI that is not public, as base classes with plain names.

Tested with jsonargparse 4.53.0 and Lightning 2.6.6. A method that is overridden here and that another version does not
call would pass in silence, so ``pyproject.toml`` has upper bounds for both.
"""

from __future__ import annotations

import argparse
import logging
import re
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI


def kind_of(action: argparse.Action) -> Any:
    """The annotation of an argument; None where it has none."""
    return getattr(action, "_typehint", None)


class OpenParser(LightningArgumentParser):
    """A parser with a say where jsonargparse offers none: at each value, and before what was read is completed.

    Attributes:
        changes: Which arguments did not outlive a change of class; a command's parser has them in its parent's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.changes = ChangesOfClass()
        super().__init__(*args, **{"logger": self.changes, **kwargs})

    # --- for subclasses ----------------------------------------------------------------------------------------------

    def check_value(self, key: str, value: Any, wanted: Any) -> None:
        """Is called with each value, whether in a class or not, and with the type that it is to have."""

    def before_completion(self, config: Namespace) -> None:
        """Is called once everything has been read, before defaults complete it."""

    @property
    def actions(self) -> list[argparse.Action]:
        """The arguments, which argparse has no other name for."""
        return self._actions

    @property
    def command_parsers(self) -> dict[str, Any]:
        """The parsers of commands by their names."""
        return dict(self._subcommands_action.choices) if self._subcommands_action else {}

    def add_command(self, name: str, parser: Any, help: str) -> None:
        """Add a command beside those that are there; a second ``add_subcommands`` is refused."""
        assert self._subcommands_action is not None
        self._subcommands_action.add_subcommand(name, parser, help=help)

    # --- what jsonargparse calls -------------------------------------------------------------------------------------

    def _check_value_key(self, action: Any, value: Any, key: str, *args: Any, **kwargs: Any) -> Any:
        self.check_value(action.dest, value, getattr(action, "_typehint", None))
        return super()._check_value_key(action, value, key, *args, **kwargs)

    def _parse_common(  # type: ignore[override]
        self, cfg: Namespace, env: bool | None, defaults: bool, skip_validation: bool, **kwargs: Any
    ) -> Namespace:
        if defaults:
            self.before_completion(cfg)
        return super()._parse_common(cfg, env, defaults, skip_validation, **kwargs)

    def parse_args(  # type: ignore[override]
        self, args: Any = None, namespace: Any = None, env: Any = None, defaults: Any = True, **kwargs: Any
    ) -> Namespace:
        """As jsonargparse's, which of ``True`` itself, and of no other truth, writes out a base class that is named."""
        return super().parse_args(args, namespace, env, int(defaults), **kwargs)  # type: ignore[arg-type]

    def add_function_arguments(self, *args: Any, linked_targets: Any = None, **kwargs: Any) -> list[str]:
        """As jsonargparse's, which cannot take the arguments that links set; that they are not required, it clears."""
        return super().add_function_arguments(*args, **kwargs)


class ChangesOfClass(logging.Logger):
    """Of all that jsonargparse logs, this keeps which arguments a change of class leaves out; it is said nowhere else.

    Attributes:
        left_out: A line for each such change.
    """

    CHANGED = re.compile(r"Due to class_path change from '(.+)' to '(.+)', discarding init_args: \{(.*)\}", re.DOTALL)
    CLASS = re.compile(r"Namespace\(class_path='([\w.]+)'\)")

    def __init__(self) -> None:
        super().__init__("fedlit.changes_of_class", logging.DEBUG)
        self.left_out: list[str] = []

    def __reduce__(self) -> Any:  # parsers are copied with their logger
        return ChangesOfClass, ()

    def handle(self, record: logging.LogRecord) -> None:
        if changed := self.CHANGED.match(record.getMessage()):
            before, now, arguments = changed.groups()
            arguments = self.CLASS.sub(r"\1", arguments)
            line = (
                f"{now} does without {arguments}, which was given for {before}: it has no such argument, or not for "
                "such a value"
            )
            self.left_out += [line] if line not in self.left_out else []


class OpenCLI(LightningCLI):
    """LightningCLI with a say in the seed and in the run itself."""

    # --- for subclasses ----------------------------------------------------------------------------------------------

    def seed(self) -> None:
        """Seed everything as the config says."""
        super()._set_seed()

    def run(self, command: str) -> None:
        """Do what the command says; data, model and Trainer are made."""
        super()._run_subcommand(command)

    def written_config(self) -> dict[str, Any]:
        """The command's config as plain values, with what links set."""
        self._dump_config()
        return dict(self.config_dump)

    # --- what LightningCLI calls -------------------------------------------------------------------------------------

    def _set_seed(self) -> None:
        self.seed()

    def _run_subcommand(self, subcommand: str) -> None:
        self.run(subcommand)

    def _parse_ckpt_path(self) -> None:
        """Nothing: our checkpoints hold no hyper-parameters to be read before the config is known."""

    def _dump_config(self) -> None:
        """As Lightning's, which looks for the arguments of a net that takes none."""
        super()._dump_config()
        self.config_dump["model"]["net"].setdefault("init_args", {})
