"""The documentation's examples and options work, and the files that it names exist."""

from __future__ import annotations

import inspect
import pydoc
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import yaml

from fedlit.cli import main
from fedlit.core.errors import InputError
from fedlit.report.claims import claims_of
from fedlit.study.plan import read_plan

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
SMALL = (
    "--trainer.max_epochs 1 --trainer.accelerator cpu --federation.clients_per_round 2 --federation.local_epochs 0.1"
)
#: Of the network that examples don't replace.
NARROW = "--model.net.widths [4,8] --model.net.hidden 8"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def commands(page: str) -> list[str]:
    """The fedlit commands of a page."""
    text = (DOCS / page).read_text().replace("\\\n", " ")
    return re.findall(r"^    fedlit (.*?)(?: +#.*)?$", text, re.MULTILINE)


@pytest.mark.parametrize("page", ["model", "data", "partition", "attention", "algorithm", "client", "rules"])
def test_the_example_of_a_page_runs_by_the_command_of_the_page(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (example,) = blocks(f"own/{page}.md", "python")
    (command,) = commands(f"own/{page}.md")
    module = f"own_{page}"
    if page == "data":
        exec(example, {})
    else:
        (tmp_path / f"{module}.py").write_text(example)
    words = re.sub(r"\b(mypackage|mynets)\b", module, command)
    narrow = "" if page == "model" else NARROW
    assert main(shlex.split(f"{words} --logs_dir {tmp_path}/logs {SMALL} {narrow}")) == 0
    assert (tmp_path / "logs/default/version_0/metrics.csv").is_file()


def test_a_command_of_several_lines_can_be_pasted() -> None:
    broken = re.compile(r"^    fedlit [^\n]*[^\\\n]\n-[^\n]*", re.MULTILINE)
    pages = [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]
    assert {page.name: found for page in pages if (found := broken.findall(page.read_text()))} == {}


def test_data_formats_are_read_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(blocks("own/formats.md", "python")[0], {})  # LEAF's files
    for place, command in enumerate(commands("own/formats.md")):
        narrow = "" if "--model.net" in command else NARROW
        assert main(shlex.split(f"{command} --logs_dir {tmp_path}/logs {SMALL} {narrow}")) == 0
        assert (tmp_path / f"logs/default/version_{place}/metrics.csv").is_file()


def test_the_formats_of_libraries_are_read_as_the_page_says(tmp_path: Path) -> None:
    pytest.importorskip("flwr_datasets", reason="flwr_datasets is not installed: pip install datasets flwr-datasets")
    made: dict[str, Any] = {}
    exec(blocks("own/formats.md", "python")[1], made)
    made["data"].setup()
    assert made["data"].num_clients == 2
    (config,) = blocks("own/formats.md", "yaml")
    (tmp_path / "flower.yaml").write_text(config)
    words = f"fit --config {tmp_path}/flower.yaml --logs_dir {tmp_path}/logs {SMALL} {NARROW}"
    assert main(words.split()) == 0


def test_the_python_example_is_that_of_the_readme() -> None:
    assert blocks("index.md", "python")[0] in (ROOT / "README.md").read_text()


def test_algorithms_of_a_list_are_combined(tmp_path: Path) -> None:
    (combined,) = blocks("own/algorithm.md", "yaml")
    (tmp_path / "combined.yaml").write_text(combined)
    words = f"fit --config {tmp_path}/combined.yaml --logs_dir {tmp_path}/logs {SMALL} {NARROW}"
    assert main(words.split()) == 0
    run = yaml.safe_load((tmp_path / "logs/combined/version_0/config.yaml").read_text())
    assert [part["class_path"] for part in run["federation"]["algorithm"]] == [
        "fedlit.algorithms.Scaffold",
        "fedlit.algorithms.Clip",
    ]


@pytest.mark.filterwarnings("ignore:::lightning", "ignore:::jsonargparse")  # as the command has it
@pytest.mark.parametrize("page", ["studies.md", "own/attention.md"])
def test_study_files_of_the_pages_are_valid(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["fedlit"])
    (study,) = [text for text in blocks(page, "yaml") if "axes" in text]
    (tmp_path / "mypackage.py").write_text(blocks("own/attention.md", "python")[0])
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plain_iid.yaml").write_text((ROOT / "configs" / "plain_iid.yaml").read_text())
    (tmp_path / "study.yaml").write_text(study)
    assert read_plan(tmp_path / "study.yaml").combinations


def test_claims_of_the_pages_are_valid() -> None:
    (block,) = [text for text in blocks("studies.md", "yaml") if "claims" in text]
    assert [claim.parts[0].kind for claim in claims_of(yaml.safe_load(block)).claims] == ["lower"]


def described_classes() -> Iterator[type]:
    """The classes of the page on the API, and those of the modules that it shows whole."""
    for name in re.findall(r"^::: (.+)$", (DOCS / "api.md").read_text(), re.MULTILINE):
        found: Any = pydoc.locate(name)
        members = [found] if not inspect.ismodule(found) else [getattr(found, each) for each in dir(found)]
        here = (each for each in members if not inspect.ismodule(found) or getattr(each, "__module__", "") == name)
        yield from (each for each in here if inspect.isclass(each))


@pytest.mark.parametrize("kind", [*described_classes()], ids=lambda kind: kind.__name__)
def test_an_argument_that_the_docstring_of_a_class_describes_exists(kind: type) -> None:
    found = re.search(r"^Args:\n((?: .*\n?|\n)+)", inspect.getdoc(kind) or "", re.MULTILINE)
    named = re.findall(r"^ {4}\**(\w+):", found[1], re.MULTILINE) if found else []
    assert {*named} <= {*inspect.signature(kind).parameters}


def arguments_of_words() -> Iterator[tuple[type, str]]:
    """The arguments, of classes on the page on the API, that take one of a few words."""
    for kind in described_classes():
        for name, annotation in get_type_hints(kind.__init__).items():
            parts = (annotation, *get_args(annotation))
            if any(get_origin(part) is Literal for part in parts):
                yield kind, name


#: Arguments without a default.
NEEDED: dict[str, Any] = {"Spatial": {"channels": 4}, "CBAM": {"channels": 4}, "SpatioTemporal": {"channels": 4}}


@pytest.mark.parametrize(("kind", "name"), [*arguments_of_words()], ids=lambda value: getattr(value, "__name__", value))
def test_a_word_that_an_argument_does_not_know_is_refused(kind: type, name: str) -> None:
    """In Python, where no parser compares values with annotations."""
    with pytest.raises(InputError, match=rf"{name}\b.* must be .*, got '?soze'?; "):
        kind(**NEEDED.get(kind.__name__, {}), **{name: "soze"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    for name in re.findall(r"(?:configs|notebooks|fedlit|tests)/[\w/]+(?:\.\w+)+", page.read_text()):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("words", re.findall(r"\| `(--[^`]+)`", (DOCS / "algorithms.md").read_text()))
def test_every_option_that_the_table_shows_trains(words: str, tmp_path: Path) -> None:
    norm = "group" if "PrivateMean" in words else "batch"  # which it refuses, as nothing hides buffers
    small = (
        f"fit --trainer.max_epochs=2 --trainer.accelerator=cpu --logs_dir={tmp_path}/logs --model.net.widths=[4,8] "
        "--model.net.hidden=8 --model.net.attention=fedlit.attention.Spatial "
        f"--model.net.attention.norm={norm} "
        "--federation.clients_per_round=3 --federation.local_epochs=1 --data.num_clients=50"
    )
    assert main([*small.split(), *shlex.split(words)]) == 0
    assert (tmp_path / "logs/default/version_0/participation.csv").exists()
