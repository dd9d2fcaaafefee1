"""Names in a report are shown literally, whatever they contain."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from studies import scalars, write_outcome, write_run

from fedlit.core.tables import unescape_cell
from fedlit.report.command import main
from fedlit.report.prose import prose

NAMES = [
    "<img src=x onerror=alert(1)>",
    "`<script>alert(1)</script>`",
    "[x](javascript:alert)",
    "=cmd|' /C calc'!A0",
    "a|b",
    "$\\foo$",
    "[bold]x[/b]",
    "line\nbreak",
    "&lt;b&gt;",
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study with a variant for each name; the first name is also a class name."""
    folder = tmp_path_factory.mktemp("logs") / "<b>study"
    runs = []
    for i, name in enumerate(NAMES):
        for seed in (0, 1):
            write_run(folder / f"v{i}/seed_{seed}", scalars(0.8, 0.01, 3, seed), 0.5, rounds=3, seed=seed)
            write_outcome(folder / f"v{i}/seed_{seed}", (0.5, 0.7), rounds=3)
            runs.append({"name": f"v{i}", "seed": seed, "axes": {"variant": name, "partition": NAMES[0]}})
    axes = {"variant": NAMES, "partition": NAMES[:1]}
    (folder / "study.json").write_text(json.dumps({"axes": axes, "seeds": [0, 1], "rounds": 3, "runs": runs}))
    assert main([str(folder), "--baseline", NAMES[0]]) == 0
    return folder / "report"


def test_a_tag_in_a_name_is_escaped_on_the_page(report: Path) -> None:
    page = (report / "report.html").read_text()
    assert set(re.findall(r"<img ([a-z]+)=", page)) == {"alt"}
    assert re.findall(r"<script[^>]*>", page) == ['<script type="application/json" id="numbers">', "<script>"]
    assert "<b>" not in page
    numbers = page.partition('id="numbers">')[2].partition("</script>")[0]
    assert json.loads(numbers)["variants"] == NAMES
    assert not set("<>&") & set(numbers)


def test_a_tag_or_link_in_a_name_is_escaped_in_the_markdown(report: Path) -> None:
    text = (report / "report.md").read_text()
    assert re.search(r"<(?!/?code>)[A-Za-z/!?]", text) is None
    assert re.search(r"(?<!\\)\]\(javascript", text) is None
    assert "&amp;lt;b&amp;gt;" in text
    widths = {line.count("|") - line.count("\\|") for line in text.splitlines() if "onerror" in line and line[0] == "|"}
    heads = {line.count("|") for line in text.splitlines() if line.startswith("| partition | variant")}
    assert widths >= heads


def test_formulas_in_names_are_quoted_in_the_tables(report: Path) -> None:
    for path in report.glob("*.csv"):
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
        assert not [value for row in rows for value in row if re.match(r"=|@|[+-](?![\d.])", value)]
    with (report / "runs.csv").open(newline="") as file:
        assert {unescape_cell(row["variant"]) for row in csv.DictReader(file)} == set(NAMES)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("**bold** and `code` and p < 0.001 & more", "**bold** and `code` and p < 0.001 & more"),
        ("a <b> c", "a &lt;b> c"),
        ("`<b>`", "<code>&lt;b></code>"),
        ("``<b>``", r"\`<code>&lt;b></code>\`"),
        ("![x](y)", r"!\[x\](y)"),
        ("&lt;", "&amp;lt;"),
        ("a\n# b", "a # b"),
        ("a\\`b", r"a\\\`b"),
    ],
)
def test_markdown_keeps_bold_and_code_and_escapes_the_rest(text: str, written: str) -> None:
    assert prose(text) == written
