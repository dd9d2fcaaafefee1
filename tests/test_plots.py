"""Figures show the given numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import QuadMesh

from fedlit import plots
from fedlit.runs.strips import channel_strip


def test_the_partition_is_drawn_client_by_class() -> None:
    counts = np.array([[3, 0], [1, 2], [0, 5]])
    figure = plots.partition_heatmap(counts, ["a", "b"], "title")
    axes, bar = figure.axes
    assert np.array_equal(np.asarray(axes.collections[0].get_array()), counts)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]
    assert (axes.get_title(), axes.get_ylabel(), bar.get_ylabel()) == ("title", "client", "samples")


def test_only_the_first_200_clients_are_drawn_and_the_axis_says_so() -> None:
    axes = plots.partition_heatmap(np.ones((836, 2), dtype=np.int64), ["a", "b"]).axes[0]
    assert np.shape(axes.collections[0].get_array()) == (200, 2)
    assert axes.get_ylabel() == "client (the first 200)"


def test_rows_of_the_confusion_matrix_are_shares_of_the_true_class() -> None:
    confusion = np.array([[3, 1, 0], [0, 4, 4], [0, 0, 0]])  # class c has no samples
    axes = plots.confusion_heatmap(confusion, ["a", "b", "c"]).axes[0]
    assert np.array_equal(np.asarray(axes.collections[0].get_array()), [[0.75, 0.25, 0], [0, 0.5, 0.5], [0, 0, 0]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")


def test_only_some_of_many_classes_are_named_at_their_positions() -> None:
    axes = plots.confusion_heatmap(np.eye(100, dtype=np.int64), [f"c{i}" for i in range(100)]).axes[0]
    named = {
        int(place): label.get_text() for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    }
    assert named == {i: f"c{i}" for i in range(0, 100, 2)}


def test_a_long_class_name_is_cut() -> None:
    axes = plots.confusion_heatmap(np.eye(2, dtype=np.int64), ["a" * 24, "b" * 25]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a" * 24, "b" * 21 + "..."]


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (3, 2)], ids=str)
@pytest.mark.parametrize("draw", ["partition", "confusion", "channels"])
def test_each_cell_is_as_large_as_any_other_also_in_a_single_row_or_column(draw: str, shape: tuple[int, int]) -> None:
    rows, columns = shape
    figure = {
        "partition": lambda: plots.partition_heatmap(np.ones(shape, dtype=np.int64), ["a"] * columns),
        "confusion": lambda: plots.confusion_heatmap(np.ones((rows, rows), dtype=np.int64), ["a"] * rows),
        "channels": lambda: channel_strip(
            {round: {"global/gate": np.ones((2, rows, 1, 1))} for round in range(1, columns + 1)}, {"global": "global"}
        ),
    }[draw]()
    mesh = figure.axes[0].collections[0]
    assert isinstance(mesh, QuadMesh)
    x, y = np.moveaxis(mesh.get_coordinates(), -1, 0)
    across = rows if draw == "confusion" else columns
    assert np.array_equal(x, np.broadcast_to(np.arange(across + 1) - 0.5, x.shape))
    assert np.array_equal(y, np.broadcast_to(np.arange(rows + 1)[:, None] - 0.5, y.shape))


def test_long_class_names_stand_upright_under_the_picture() -> None:
    axes = plots.confusion_heatmap(np.eye(2, dtype=np.int64), ["cat", "ostrich"]).axes[0]
    assert {label.get_rotation() for label in axes.get_xticklabels()} == {90.0}
    assert {label.get_rotation() for label in axes.get_yticklabels()} == {0.0}


def test_gates_stand_under_their_images() -> None:
    images = np.zeros((2, 4, 4), dtype=np.float32)
    gates = {"first": np.full((2, 2, 2), 0.5, dtype=np.float32), "second": np.ones((2, 1, 1), dtype=np.float32)}
    figure = plots.attention_maps(images, gates)
    pictures = [axes for axes in figure.axes if axes.images]
    assert [np.shape(axes.images[0].get_array()) for axes in pictures] == [(4, 4)] * 2 + [(2, 2)] * 2 + [(1, 1)] * 2
    assert [axes.get_ylabel() for axes in pictures] == ["", "", "first", "", "second", ""]


def test_a_gate_over_time_or_space_alone_is_drawn_as_large_as_its_sequence() -> None:
    gates = {"time": np.full((1, 3, 1), 0.5, dtype=np.float32), "space": np.full((1, 1, 4), 0.5, dtype=np.float32)}
    figure = plots.attention_maps(np.zeros((1, 6, 4), dtype=np.float32), gates)
    extents = [axes.images[0].get_extent() for axes in figure.axes if axes.images]
    assert [tuple(map(float, extent)) for extent in extents] == [(-0.5, 3.5, 5.5, -0.5)] * 3


def test_curves_are_labelled_lines_over_rounds() -> None:
    table = pd.DataFrame({"round": [1, 2], "global/accuracy": [0.5, 0.75]})
    axes = plots.curves({"spatial": table, "plain": table}).axes[0]
    assert [line.get_label() for line in axes.lines] == ["spatial", "plain"]
    assert np.array_equal(axes.lines[0].get_xydata(), [[1, 0.5], [2, 0.75]])
    assert len({line.get_color() for line in axes.lines}) == 2
    assert all(tick == round(tick) for tick in axes.get_xticks())


def test_a_figure_is_saved_as_its_suffix_says(tmp_path: Path) -> None:
    figure = plots.partition_heatmap(np.ones((2, 2), dtype=np.int64), ["a", "b"])
    figure.savefig(tmp_path / "a.png")
    figure.savefig(tmp_path / "a.svg")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
