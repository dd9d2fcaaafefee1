"""CSV tables without formulas for a spreadsheet, which are read back unchanged."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlit.core.tables import escape_cell, unescape_cell, write_table

FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''@x", "=", "-", "+1 up"]
PLAIN = ["a", "N/A", "'a", "''", "a=b", "1", "-1", "+2.5", "-inf", "1e-3", "", "b-a", " =1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_text_that_begins_as_a_formula_is_quoted(text: str) -> None:
    assert escape_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [*PLAIN, 3, -1, -0.5, float("-inf"), None, True])
def test_plain_text_and_numbers_are_written_as_they_are(value: object) -> None:
    assert escape_cell(value) is value


@given(st.text(alphabet="'=+-@\t\ra1.", max_size=6))
def test_every_name_is_read_back(text: str) -> None:
    assert unescape_cell(escape_cell(text)) == text


def test_a_table_holds_no_formula_and_all_names(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", ["class", "=h"], [(name, -1.5) for name in FORMULAS + PLAIN])
    with (tmp_path / "a.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["class", "'=h"]
    assert [unescape_cell(row[0]) for row in rows] == FORMULAS + PLAIN
    assert [row[1] for row in rows] == ["-1.5"] * len(rows)
