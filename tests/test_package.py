"""What is published: a wheel for all Pythons with the configs, and a source distribution whose tests run."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import fedlit

ROOT = Path(__file__).parents[1]
pytest.importorskip("setuptools", "77", reason="setuptools 77, which builds the package")

#: Folders of which the source distribution has all files, and files beside them.
FOLDERS = ("fedlit", "configs", "docs", "tests", "notebooks", ".ci")
FILES = "pyproject.toml setup.py MANIFEST.in mkdocs.yml README.md CHANGELOG.md LICENSE logs/README.md".split()
RELATIVE = re.compile(r"\]\((?!https?:|#)")  # a link or picture of the README
MADE = re.compile(r"__pycache__|\.pyc$|\.so$|\.pyd$|\.ipynb_checkpoints")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both, built from a copy of the sources, where no C compiler is."""
    source, out = (tmp_path_factory.mktemp(name) for name in ("source", "built"))
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    for file in FILES:
        (source / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, source / file)
    code = f"import setuptools.build_meta as b; b.build_sdist({str(out)!r}); b.build_wheel({str(out)!r})"
    environment = {**os.environ, "CC": "no-compiler"}
    done = subprocess.run([sys.executable, "-c", code], cwd=source, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return out


def test_one_wheel_is_for_all_pythons_and_carries_configs_types_and_data(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    assert wheel.name.startswith(f"fedlit-{fedlit.__version__}-cp311-abi3-")  # 3.11 and all that come after it
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    configs = {f"fedlit/configs/{file.relative_to(ROOT / 'configs')}" for file in (ROOT / "configs").rglob("*.yaml")}
    modules = {str(file.relative_to(ROOT)) for file in (ROOT / "fedlit").rglob("*.py")}
    assert {
        *configs,
        *modules,
        "fedlit/py.typed",
        "fedlit/data/mnist_5k.npz",
        "fedlit/report/page.css",
        "fedlit/report/page.js",
    } <= names
    assert not {name for name in names if name.startswith(("configs", "tests", "setup"))}
    assert "Author: The fedlit developers" in metadata
    assert "# fedlit" in metadata
    assert not RELATIVE.search(metadata)


def test_the_source_distribution_has_what_its_tests_need(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    files = {str(file.relative_to(ROOT)) for folder in FOLDERS for file in (ROOT / folder).rglob("*") if file.is_file()}
    assert {*(name for name in files if not MADE.search(name)), *FILES} - names == set()


def test_lower_bounds_are_the_versions_that_the_lowest_set_is_tested_with() -> None:
    needed = map(Requirement, tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
    bounds = {each.name: [Version(part.version) for part in each.specifier if part.operator == ">="] for each in needed}
    lines = [line for line in (ROOT / "tests/lowest.txt").read_text().splitlines() if not line.startswith("#")]
    assert bounds == {name: [Version(version)] for name, version in (line.split("==") for line in lines)}


README = (
    """[all](study.md) of ![a picture](pictures/a.png) at [home](https://here.org) and ![one](https://here.org/b.png)"""
)


def test_the_readme_of_an_index_has_no_paths_of_the_repository() -> None:
    for_index = runpy.run_path(str(ROOT / "setup.py"))["for_index"]
    elsewhere = "[home](https://here.org) and ![one](https://here.org/b.png)"
    home = "https://here.org/f"
    shown = f"[all]({home}/blob/HEAD/study.md) of ![a picture]({home}/raw/HEAD/pictures/a.png) at {elsewhere}"
    assert for_index(README, home) == shown
    assert for_index(README, None) == f"all of  at {elsewhere}"
    assert not RELATIVE.search(for_index((ROOT / "README.md").read_text(), None))
