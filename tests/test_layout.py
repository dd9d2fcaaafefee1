"""The layers of the package: a module imports only from its own layer or lower ones, without cycles."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "fedlit"

#: From the ground up; a name stands for a module or for all of a package.
LAYERS: list[set[str]] = [
    {"core", "native"},
    {"data", "models", "attention", "sampling", "stragglers", "mu", "schedules", "rates", "optim"},
    {"algorithms"},
    {"clients"},
    {"engines"},
    {"federated"},
    {"runs", "plots"},
    {"command"},
    {"report"},
    {"study"},
    {"cli", "child", "__main__", "flower"},
]
LAYER_OF = {name: layer for layer, names in enumerate(LAYERS) for name in names}


def modules() -> dict[str, Path]:
    """Every module but the public front, by its name without ``fedlit``."""
    found = {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path for path in ROOT.rglob("*.py")}
    return {name: path for name, path in found.items() if name != "__init__"}


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports when it runs, wherever in it; not those for type checkers alone."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "fedlit":
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "fedlit"}
    return {name.removeprefix("fedlit.") for name in found if name != "fedlit"}


@pytest.mark.parametrize("name", modules())
def test_a_module_imports_nothing_from_a_higher_layer(name: str):
    layer = LAYER_OF[name.split(".")[0]]
    above = {each for each in imports(modules()[name]) if LAYER_OF.get(each.split(".")[0], 0) > layer}
    assert not above


def test_there_are_no_import_cycles():
    known = modules()
    packages = {name.removesuffix(".__init__") for name in known if name.endswith(".__init__")}

    def resolved(name: str) -> set[str]:
        return {name} & known.keys() | ({f"{name}.__init__"} if name in packages else set())

    graph = {name: set().union(*(resolved(each) for each in imports(path))) - {name} for name, path in known.items()}
    # A package's front gathers what is in it; its own modules name each other, not the front.
    for name in graph:
        if name.endswith(".__init__"):
            continue
        graph[name] = {each for each in graph[name] if each != f"{name.rpartition('.')[0]}.__init__"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' -> '.join(error.args[1])}")


def test_every_module_has_a_layer():
    assert {name.split(".")[0] for name in modules()} <= LAYER_OF.keys()
