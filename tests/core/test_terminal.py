"""Names and values are printed literally and cannot control the terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.progress import TextColumn
from rich.table import Table

import fedlit
from fedlit.core.messages import one_line, visible
from fedlit.core.terminal import Terminal
from fedlit.runs.progress import bars

NAMES = {
    "plain": "plain",
    "a[/b]": "a[/b]",
    "m[bold]x[/bold]": "m[bold]x[/bold]",
    "[link=file:///etc]x": "[link=file:///etc]x",
    ":smile:": ":smile:",
    r"\[x]": r"\[x]",
    "\x1b[2J\x1b]0;title\x07": r"\x1b[2J\x1b]0;title\x07",
    "a\rb\nc\td": r"a\rb\nc\td",
    "\x9b31m": r"\x9b31m",
    "evil\u202etxt": r"evil\u202etxt",
    "\udcff": r"\udcff",
    "ü 名": "ü 名",
}


@pytest.mark.parametrize(("name", "shown"), NAMES.items(), ids=ascii)
def test_a_name_is_printed_literally_and_control_characters_are_escaped(name: str, shown: str) -> None:
    out = io.StringIO()
    terminal = Terminal(file=out, width=200)
    terminal.print(name)
    table = Table(name, box=None, title=name)
    table.add_row(name)
    terminal.print(table)
    lines = [line.strip() for line in out.getvalue().splitlines()]
    assert lines == [shown] * 4


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_progress_bar_shows_a_name_literally(name: str) -> None:
    out = io.StringIO()
    with bars(Terminal(file=out, width=200, force_terminal=True)) as progress:
        progress.add_task(visible(name), total=1)
    assert NAMES[name] in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())


def test_what_an_encoding_lacks_is_escaped() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Terminal(file=file).print("ü 名")
    file.seek(0)
    assert file.read().strip() == r"\xfc \u540d"


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_message_is_one_line_without_control_characters(name: str) -> None:
    said = one_line(f"no folder {name}")
    assert len(said.splitlines()) == 1
    assert said == visible(said)


def test_nothing_else_prints() -> None:
    """A console of Rich's own would take brackets in names for markup."""
    package = Path(fedlit.__file__).parent
    printing = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"rich\.console|\bprint\(", path.read_text().replace(".print(", ""))
    ]
    assert printing == ["core/terminal.py"]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_bars_show_every_digit_in_a_narrow_terminal_too(width: int) -> None:
    out = io.StringIO()
    console = Terminal(file=out, width=width, force_terminal=True, soft_wrap=False)
    progress = bars(console, TextColumn("{task.fields[note]}", markup=False))
    progress.add_task("rounds ", total=100, completed=34, note="accuracy 0.8374  loss 1.0387")
    console.print(progress.get_renderable())
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "34/100" in shown
    assert "accuracy 0.8374  loss 1.0387" in shown
    assert ("\u2501" in shown) == (width >= 80)  # the bar


def test_output_to_a_pipe_is_not_cut() -> None:
    out = io.StringIO()
    Terminal(file=out).print(Table("x" * 200, box=None))
    assert "x" * 200 in out.getvalue()
