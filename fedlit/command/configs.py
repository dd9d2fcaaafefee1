"""List the configs that come with fedlit, or copy them.

Each can be given by its name, from any folder:

  fedlit configs                          list the configs
  fedlit fit --config quickstart          use one; for configs of studies: fedlit study --config study
  fedlit configs --copy configs           copy all of them, to read and to change

A file of the same name in the current folder takes precedence.
"""

from __future__ import annotations

import re
import shutil
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from fedlit.command.parser import Parser
from fedlit.core.bundled import bundled
from fedlit.core.configs import read_text
from fedlit.core.errors import InputError
from fedlit.core.terminal import Terminal
from fedlit.runs.folder import usable


def parser() -> Parser:
    """The parser of the command."""
    options = Parser(prog="fedlit configs", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument(
        "--copy", type=str | None, default=None, help="Folder to copy them to; it is created if needed."
    )
    return options


def main(words: Sequence[str]) -> int:
    """List or copy the configs.

    Returns:
        0.
    """
    target = parser().parse_args(list(words)).copy
    configs = bundled()
    if not configs:
        raise InputError("this installation has no configs; install fedlit from a wheel or from its repository")
    if target is None:
        Terminal(soft_wrap=False).print(table(configs))
    else:
        copy(configs, Path(target))
        Terminal().print(f"{len(configs)} configs in {target}")
    return 0


def table(configs: dict[str, Path]) -> Table:
    """The command, name and purpose of each config, from the first two lines of its file."""
    shown = Table("command", "name", "what it shows", box=None, header_style="bold")
    for name, file in configs.items():
        command, what = (line.removeprefix("# ") for line in read_text(file).splitlines()[:2])
        found = re.match(r"fedlit (\w+)", command)
        shown.add_row(found[1] if found else "", name, what)
    return shown


def copy(configs: dict[str, Path], folder: Path) -> None:
    """Copy configs by their names into a folder.

    Raises:
        InputError: If one of the files exists with other content; then none is copied.
    """
    usable(folder, "--copy")
    files = {folder / f"{name}.yaml": source for name, source in configs.items()}
    for file, source in files.items():
        if file.exists() and file.read_bytes() != source.read_bytes():
            raise InputError(f"{file} exists with other content; give --copy another folder")
    for file, source in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, file)
