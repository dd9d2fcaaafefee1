"""The notebooks run anywhere, from top to bottom."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted(Path(__file__).parents[2].joinpath("notebooks").glob("*.ipynb"))
PICTURES = {"compare_variants": 4, "own_attention": 1, "study": 5}
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    return [output["data"]["text/plain"] for output in outputs(notebook) if "text/html" in output.get("data", {})]


@each_notebook
def test_a_notebook_runs_without_any_run_there(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "results").symlink_to(path.parent / "results")
    kept = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    notebook = deepcopy(kept)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert sum("image/png" in output.get("data", {}) for output in outputs(notebook)) == PICTURES[path.stem]
    if path.stem == "study":  # its tables are read from files, so they are the same everywhere
        assert texts(kept) == texts(notebook)


@each_notebook
def test_a_notebook_is_kept_with_its_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kept = outputs(notebook)
    assert sum("image/png" in output.get("data", {}) for output in kept) == PICTURES[path.stem]
    assert {output["output_type"] for output in kept} <= {"display_data", "execute_result", "stream"}
    assert not [output for output in kept if output.get("name") == "stderr"]
