"""The configs that come with fedlit, found by their names: ``quickstart`` is ``configs/quickstart.yaml``."""

from __future__ import annotations

from pathlib import Path

import fedlit

PACKAGE = Path(fedlit.__file__).parent
#: Their folder: in the package where it is installed, beside it in the repository.
FOLDER = next((each for each in (PACKAGE / "configs", PACKAGE.parent / "configs") if each.is_dir()), None)


def bundled() -> dict[str, Path]:
    """All of them by their names, which are their paths within the folder without the ending."""
    if FOLDER is None:
        return {}
    files = sorted(FOLDER.rglob("*.yaml"), key=lambda file: (len(file.parts), file))
    return {file.relative_to(FOLDER).with_suffix("").as_posix(): file for file in files}


def find(given: str, folder: Path = Path()) -> Path:
    """The file that is meant by a path or by a bundled config's name.

    Args:
        given: Taken as the path of a file first, then as such a path without ``.yaml``, then as a name.
        folder: Where relative paths begin.

    Returns:
        The file; where there is none, the path as it was given.
    """
    path = folder / given
    if (comes_along := bundled().get(given)) is None or path.exists():
        return path
    own = folder / f"{given}.yaml"
    return own if own.exists() else comes_along
