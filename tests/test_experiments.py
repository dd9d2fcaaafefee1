"""Experiments import the library, and never the other way: what a paper asks is in configs/ and notebooks/."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SCRIPTS = {path.stem for path in ROOT.glob("notebooks/*.py")} | {"notebooks", "tests"}
#: What the paper compares; a class in fedlit.attention may be called so, a variant in the library may not.
VARIANTS = set(yaml.safe_load((ROOT / "configs/study.yaml").read_text())["axes"]["variant"]) - {"plain"}


def trees(folder: str) -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sorted((ROOT / "fedlit" / folder).rglob("*.py"))}


def test_the_library_imports_no_experiment() -> None:
    for path, tree in trees("").items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
                assert not SCRIPTS & {name.partition(".")[0] for name in names}, path


@pytest.mark.parametrize("folder", ["report", "study"])
def test_reports_and_studies_know_no_variant_by_name(folder: str) -> None:
    for path, tree in trees(folder).items():
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert not VARIANTS & texts, path
