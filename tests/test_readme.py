"""The README's examples work."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

from fedlit.cli import main
from fedlit.report.claims import claims_of

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def block(containing: str) -> str:
    (found,) = [text for text in BLOCKS if containing in text]
    return found


def test_the_python_example_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    example = block("trainer.fit").replace("max_epochs=10", "max_epochs=1")
    names: dict[str, object] = {}
    exec(example, names)
    assert names["trainer"].global_step == 1
    assert names["trainer"].callback_metrics["global/accuracy"] > 0


def test_the_python_example_takes_fifteen_lines():
    lines = [line for line in block("trainer.fit").splitlines() if line and not line.startswith(("import", "from"))]
    assert len(lines) <= 15


def test_an_own_attention_and_partition_are_found_by_class_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = "import torch\nimport fedlit.data\n" + block("class Half(") + block("class OneClassEach")
    (tmp_path / "ones_own.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    words = (
        f"fit --trainer.max_epochs=1 --trainer.accelerator=cpu --logs_dir={tmp_path}/logs --model.net.widths=[4,8] "
        "--model.net.attention=ones_own.Half --model.net.attention.keep=0.7 "
        "--data.partition=ones_own.OneClassEach --data.num_clients=10 --federation.clients_per_round=2 "
        "--federation.local_epochs=0.1"
    )
    assert main(words.split()) == 0
    assert "ones_own" in sys.modules


def test_an_own_algorithm_is_found_by_class_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "half_way.py").write_text("import fedlit\n" + block("class HalfWay"))
    monkeypatch.syspath_prepend(tmp_path)
    small = (
        f"--trainer.max_epochs=1 --trainer.accelerator=cpu --logs_dir={tmp_path}/logs --model.net.widths=[4,8] "
        "--model.net.hidden=8 --federation.clients_per_round=2 --federation.local_epochs=0.1"
    ).split()
    assert main(["fit", "--federation.algorithm", "half_way.HalfWay", *small]) == 0


@pytest.mark.parametrize("of", ["class Half(", "class OneClassEach", "class HalfWay"])
def test_own_classes_take_at_most_ten_lines(of: str):
    assert len([line for line in block(of).splitlines() if line.strip()]) <= 10


def test_every_config_picture_and_page_that_it_names_exists():
    root = Path(__file__).parent.parent
    for name in re.findall(r"configs/[\w/]+\.yaml|notebooks/[\w/]+(?:\.\w+)+|docs/[\w/]+\.md", README):
        if "VARIANT" not in name:
            assert (root / name).is_file(), name


def test_its_example_of_claims_is_valid():
    (block,) = [text for text in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "claims" in text]
    assert [claim.parts[0].kind for claim in claims_of(yaml.safe_load(block)).claims] == ["lower"]
