"""The configs that come with fedlit, found by their names: ``quickstart`` is ``configs/quickstart.yaml``."""

from __future__ import annotations

from pathlib import Path

import fedlit

PACKAGE = Path(fedlit.__file__).parent
#: The folder of the configs: inside an installed package, next to the package in the repository.
FOLDER = next((each for each in (PACKAGE / "configs", PACKAGE.parent / "configs") if each.is_dir()), None)


def bundled() -> dict[str, Path]:
    """The bundled configs by name; a name is a path within the folder without its suffix."""
    if FOLDER is None:
        return {}
    files = sorted(FOLDER.rglob("*.yaml"), key=lambda file: (len(file.parts), file))
    return {file.relative_to(FOLDER).with_suffix("").as_posix(): file for file in files}


def find(given: str, folder: Path = Path()) -> Path:
    """The file that a path or the name of a bundled config stands for.

    Args:
        given: Tried as a path, then as a path without ``.yaml``, then as the name of a bundled config.
        folder: The folder of relative paths.

    Returns:
        The file; ``folder / given`` if there is none.
    """
    path = folder / given
    if (bundled_file := bundled().get(given)) is None or path.exists():
        return path
    own = folder / f"{given}.yaml"
    return own if own.exists() else bundled_file
