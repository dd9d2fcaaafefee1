"""What ``pyproject.toml`` has no words for: configs within the installed package, and the README on an index."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.egg_info import egg_info

CONFIGS = Path("configs")


class WithConfigs(build_py):
    """Copies the configs beside the modules; an editable install leaves them where they are."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.copytree(CONFIGS, self._target, dirs_exist_ok=True)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        files = [str(self._target / file.relative_to(CONFIGS)) for file in CONFIGS.rglob("*.yaml")]
        return [*super().get_outputs(include_bytecode), *files]

    @property
    def _target(self) -> Path:
        return Path(self.build_lib) / "fedlit" / "configs"


def for_index(readme: str, repository: str | None) -> str:
    """The README without relative paths, which an index has no files for.

    Args:
        readme: In Markdown.
        repository: Its address, which pictures and links then lead to; without one pictures are left out, and links
            are their texts.
    """
    picture, link = rf"![\1]({repository}/raw/HEAD/\2)", rf"[\1]({repository}/blob/HEAD/\2)"
    shown = re.sub(r"!\[([^]]*)\]\((?!https?:)([^)]+)\)", picture if repository else "", readme)
    return re.sub(r"(?<!!)\[([^]]*)\]\((?!https?:|#)([^)]+)\)", link if repository else r"\1", shown)


class ForIndex(egg_info):
    """Writes the package's description for an index."""

    def run(self) -> None:
        described = self.distribution.metadata
        described.long_description = for_index(described.long_description, described.project_urls.get("Repository"))
        super().run()


if __name__ == "__main__":
    setup(cmdclass={"build_py": WithConfigs, "egg_info": ForIndex})
