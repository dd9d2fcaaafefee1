"""``fedlit sites new DIR``: write a project for a federation of real sites, which ``flwr run`` can run."""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from fedlit.command.parser import Parser
from fedlit.core.errors import InputError
from fedlit.core.files import atomic_write
from fedlit.core.terminal import Terminal

#: Files of a project, copied from ``fedlit.flower.project``.
FILES = (
    "README.md",
    "pyproject.toml",
    "server_app.py",
    "client_app.py",
    "federation.yaml",
    "site.yaml",
    "server.sh",
    "site.sh",
    "run.sh",
    ".flwr/config.toml",
)


def parser() -> Parser:
    """The parser of the command."""
    options = Parser(prog="fedlit sites", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("action", choices=["new"], help="new writes a project.")
    options.add_argument("folder", type=str, help="The project's folder, which must not exist, or must be empty.")
    return options


def main(words: Sequence[str]) -> int:
    """Write a project.

    Returns:
        0.

    Raises:
        InputError: If Flower is not installed, or the folder is not empty.
    """
    given = parser().parse_args(list(words))
    if find_spec("flwr") is None:
        raise InputError("Flower is not installed; install it by pip install 'fedlit[flower]'")
    folder = Path(given.folder)
    write_project(folder)
    Terminal().print(f"project written to {folder}; next steps: {folder / 'README.md'}")
    return 0


def write_project(folder: Path) -> None:
    """Write the files of a project.

    Raises:
        InputError: If the folder is not empty, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not empty; give another folder")
    source = files("fedlit.flower") / "project"
    for name in FILES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(source.joinpath(name.replace(".flwr", "flwr")).read_text(encoding="utf-8"))
        path.chmod(0o755 if path.suffix == ".sh" else 0o644)
