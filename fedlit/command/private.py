"""Private parts of jsonargparse and LightningCLI that the command line uses, as base classes with public names.

Tested with jsonargparse 4.53.0 and Lightning 2.6.6. If another version did not call a method that is overridden here,
nothing would report it, so ``pyproject.toml`` has upper bounds for both.
"""

from __future__ import annotations

import argparse
import logging
import re
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI


def kind_of(action: argparse.Action) -> Any:
    """The annotation of an argument; None if it has none."""
    return getattr(action, "_typehint", None)


class OpenParser(LightningArgumentParser):
    """A parser with hooks that jsonargparse does not offer: for each value, and before defaults are filled in.

    Attributes:
        changes: The arguments that a change of class dropped; a command's parser reports to that of its parent.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.changes = ChangesOfClass()
        super().__init__(*args, **{"logger": self.changes, **kwargs})

    # --- hooks for subclasses ----------------------------------------------------------------------------------------

    def check_value(self, key: str, value: Any, wanted: Any) -> None:
        """Is called with each value, inside a class or not, and its wanted type."""

    def before_completion(self, config: Namespace) -> None:
        """Is called once everything has been read, before defaults are filled in."""

    @property
    def actions(self) -> list[argparse.Action]:
        """The arguments."""
        return self._actions

    @property
    def command_parsers(self) -> dict[str, Any]:
        """The parsers of the commands, by name."""
        return dict(self._subcommands_action.choices) if self._subcommands_action else {}

    def add_command(self, name: str, parser: Any, help: str) -> None:
        """Add a command to the existing ones; jsonargparse refuses a second ``add_subcommands``."""
        assert self._subcommands_action is not None
        self._subcommands_action.add_subcommand(name, parser, help=help)

    # --- what jsonargparse calls -------------------------------------------------------------------------------------

    def _check_value_key(self, action: Any, value: Any, key: str, *args: Any, **kwargs: Any) -> Any:
        self.check_value(action.dest, value, kind_of(action))
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
        """As in jsonargparse; with 1 instead of ``True`` for ``defaults``, it does not print a base class in full."""
        return super().parse_args(args, namespace, env, int(defaults), **kwargs)  # type: ignore[arg-type]

    def add_function_arguments(self, *args: Any, linked_targets: Any = None, **kwargs: Any) -> list[str]:
        """As in jsonargparse, which fails on the arguments that links set; it makes them optional elsewhere."""
        return super().add_function_arguments(*args, **kwargs)


class ChangesOfClass(logging.Logger):
    """Collects from jsonargparse's log which arguments a change of class drops; only the log says so.

    Attributes:
        left_out: A line for each change.
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
                f"{arguments} was given for {before} and is ignored for {now}, which has no such argument or does not "
                "take this value"
            )
            self.left_out += [line] if line not in self.left_out else []


class OpenCLI(LightningCLI):
    """LightningCLI with hooks for seeding and for the run itself."""

    # --- for subclasses ----------------------------------------------------------------------------------------------

    def seed(self) -> None:
        """Seed everything as the config says."""
        super()._set_seed()

    def run(self, command: str) -> None:
        """Run the command with the data, model and Trainer that have been made."""
        super()._run_subcommand(command)

    def written_config(self) -> dict[str, Any]:
        """The command's config as plain values, including those that links set."""
        self._dump_config()
        return dict(self.config_dump)

    # --- what LightningCLI calls -------------------------------------------------------------------------------------

    def _set_seed(self) -> None:
        self.seed()

    def _run_subcommand(self, subcommand: str) -> None:
        self.run(subcommand)

    def _parse_ckpt_path(self) -> None:
        """Do nothing: fedlit's checkpoints hold no hyper-parameters."""

    def _dump_config(self) -> None:
        """As in Lightning, which expects ``init_args`` also for a net without arguments."""
        super()._dump_config()
        self.config_dump["model"]["net"].setdefault("init_args", {})
