"""A project that ``fedlit sites new`` writes, and the config in it, read by a server and by its sites."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from offices import Node, OfficeGrid, flower

from fedlit.cli import main
from fedlit.core.errors import InputError
from fedlit.data import FederatedData, MNIST5k
from fedlit.flower import Sites
from fedlit.flower.built import built, own_data
from fedlit.flower.command import FILES, write_project
from fedlit.flower.place import read_place
from fedlit.flower.relay import path_in
from fedlit.flower.site_data import OwnData
from fedlit.flower.wire import Terms
from fedlit.runs.read import rows_of

SIZES = {"north": 20, "south": 12, "west": 7}


def arrays(count: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"images": rng.integers(0, 256, (count, 8, 8), np.uint8), "labels": np.arange(count) % 3}


def federation(folder: Path, **changes: Any) -> Path:
    """A project of three sites with a network of 8 x 8 pixels, and the files of sites and server beside it."""
    write_project(folder / "project")
    path = folder / "project" / "federation.yaml"
    config = yaml.safe_load(path.read_text())
    np.savez(folder / "held_out.npz", **arrays(30, 99))
    held_out = {"class_path": "fedlit.data.Tensors", "init_args": {"path": str(folder / "held_out.npz")}}
    config["data"]["init_args"] |= {"sites": [*SIZES], "held_out": held_out, "batch_size": 4}
    config["model"]["net"]["init_args"] = {"image_size": 8, "widths": [4, 8], "hidden": 16}
    config["federation"]["clients_per_round"] = 3
    config["federation"] |= changes.pop("federation", {})
    config["model"] |= changes.pop("model", {})
    config["trainer"] |= {"max_epochs": 2, "enable_progress_bar": False}
    path.write_text(yaml.safe_dump(config))
    for name, count in SIZES.items():
        np.savez(folder / f"{name}.npz", **arrays(count, count))
        site = yaml.safe_load((folder / "project" / "site.yaml").read_text())
        site |= {"name": name, "data": {**site["data"], "init_args": {"path": f"{name}.npz"}}, "state": f"{name}_state"}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(site))
    return path


def nodes_of(folder: Path, words: Sequence[str]) -> dict[int, Node]:
    return {k: Node(built(read_place(folder / f"{name}.yaml"), words).answer) for k, name in enumerate(SIZES, 7)}


def one_process(folder: Path) -> list[str]:
    """The arguments of ``fedlit fit`` that train the same federation in one process."""
    parts = [arrays(count, count) for count in SIZES.values()] + [arrays(30, 99)]
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    owners = np.repeat(np.arange(4), [*SIZES.values(), 30])
    np.savez(folder / "whole.npz", **whole, writers=owners, n_train=sum(SIZES.values()))
    partition = "--data.partition fedlit.data.ByGroup --data.batch_size 4 --data.mean 0.1309 --data.std 0.308".split()
    data = ["--data", "fedlit.data.Tensors", "--data.path", str(folder / "whole.npz"), *partition]
    return [*data, "--federation.engine", "fedlit.engines.LoopEngine", "--name", "one"]


def weights(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]  # type: ignore[no-any-return]


def metrics(run: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows_of(run)]


@pytest.mark.flower
@pytest.mark.filterwarnings("ignore:No positive class")
def test_a_project_trains_its_sites_to_the_bits_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    algorithm = {"algorithm": "fedlit.algorithms.Scaffold", "averaging": "uniform"}
    config = federation(tmp_path, federation=algorithm, model={"mu": 0.0})
    words = ["--config", str(config), "--model.client_optimizer.lr", "0.05"]
    with flower(OfficeGrid(nodes_of(tmp_path, words))):
        assert main(["fit", *words]) == 0
    assert main(["fit", *words, *one_process(tmp_path)]) == 0
    sites, one = tmp_path / "logs" / "federation" / "version_0", tmp_path / "logs" / "one" / "version_0"
    assert metrics(sites) == metrics(one)
    expected = weights(one)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(sites).items())
    assert sorted(path.name for path in (tmp_path / "north_state").rglob("*.pack")) == ["000000.pack", "000001.pack"]
    assert main(["test", *words, "--ckpt_path", "best"]) == 0  # without a grid: of the server's own data


def test_a_project_has_all_its_files_and_their_commands_are_those_of_flower(tmp_path: Path):
    write_project(tmp_path / "p")
    assert sorted(str(path.relative_to(tmp_path / "p")) for path in (tmp_path / "p").rglob("*") if path.is_file()) == (
        sorted(FILES)
    )
    text = (tmp_path / "p" / "README.md").read_text()
    for script in re.findall(r"\./(\w+\.sh)", text):
        assert (tmp_path / "p" / script).stat().st_mode & 0o111
    # Nothing is reported to anybody: by run.sh itself, and by what the others start.
    assert "FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1" in (tmp_path / "p" / "run.sh").read_text()
    for script in ("server.sh", "site.sh"):
        assert "python3 -m fedlit.flower.start" in (tmp_path / "p" / script).read_text()


def test_a_project_is_not_written_into_a_folder_with_files(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").touch()
    for folder in (tmp_path / "a", tmp_path / "a" / "mine"):
        with pytest.raises(InputError, match="exists and is not empty; give another folder"):
            write_project(folder)


@pytest.mark.skipif(find_spec("flwr") is not None, reason="Flower is installed")
def test_without_flower_the_command_says_what_to_install(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["sites", "new", str(tmp_path / "p")]) == 2
    assert "Flower is not installed; install it by pip install 'fedlit[flower]'" in capsys.readouterr().err


BAD_FILES = {
    "no mapping": ("[1]", "must have name and data"),
    "no data": ("name: a", "must have name and data"),
    "another key": ("{name: a, data: {class_path: x}, port: 1}", "must have name and data, and may have state"),
    "a number for a name": ("{name: 1, data: {class_path: x}}", "name has a value of a wrong type, 1"),
    "a truth for a number": (
        "{name: a, data: {class_path: x}, threads: true}",
        "threads has a value of a wrong type, True",
    ),
    "no threads": ("{name: a, data: {class_path: x}, threads: 0}", "threads must be at least 1, got 0"),
    "too many threads": (
        "{name: a, data: {class_path: x}, threads: 100000}",
        "threads must be at most the number of cores",
    ),
    "epochs that are not a number": (
        "{name: a, data: {class_path: x}, max_epochs: .nan}",
        "max_epochs must be at least 0, got nan",
    ),
    "another accelerator": ("{name: a, data: {class_path: x}, accelerator: abacus}", "must be auto or cpu"),
    "not YAML": ("name: [", "not valid YAML"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_sites_file_that_cannot_be_used_is_refused_in_one_line(case: str, tmp_path: Path):
    text, said = BAD_FILES[case]
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as error:
        read_place(path)
    assert str(path) in str(error.value)


def test_a_super_node_started_without_the_sites_file_says_how_to_start_it(tmp_path: Path):
    for given in ({}, {"site": 3}, {"site": str(tmp_path / "none.yaml")}):
        with pytest.raises(InputError, match=r"start it with --node-config 'site="):
            path_in(given)


def test_data_that_cannot_be_made_are_reported_with_the_sites_file(tmp_path: Path):
    path = tmp_path / "site.yaml"
    path.write_text("{name: a, data: {class_path: fedlit.data.Tensors, init_args: {paht: x.npz}}}")
    with pytest.raises(InputError, match=r"site\.yaml: data: .*paht"):
        own_data(read_place(path))


@pytest.mark.parametrize("argument", ["batch_size: 8", "client_holdout: 0.2", "validation_clients: 1", "mean: 0.5"])
def test_an_argument_that_has_no_effect_at_a_site_is_refused(argument: str, tmp_path: Path):
    path = tmp_path / "site.yaml"
    path.write_text(f"{{name: a, data: {{class_path: fedlit.data.Tensors, init_args: {{path: x.npz, {argument}}}}}}}")
    name = argument.partition(":")[0]
    with pytest.raises(InputError, match=rf"site\.yaml: data\.{name} has no effect at a site.* leave it out"):
        own_data(read_place(path))


class Untyped(MNIST5k):
    """Its arguments have no types, as in much published code."""

    def __init__(self, copies, clients=2):
        super().__init__(num_clients=clients)
        self.copies = copies


def test_data_of_a_sites_own_class_need_no_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # of the parser's methods
    path = tmp_path / "site.yaml"
    path.write_text(f"{{name: a, data: {{class_path: {__name__}.Untyped, init_args: {{copies: 3}}}}}}")
    assert own_data(read_place(path)).copies == 3


class Centred(MNIST5k):
    """Digits with a conversion of their own."""

    def transform(self, x: torch.Tensor) -> torch.Tensor:
        return x / 127.5 - 1


@pytest.mark.parametrize(
    ("make", "has"), [(Centred, "Centred.transform"), (lambda: MNIST5k(augment=torch.nn.Identity()), "an augmentation")]
)
def test_data_whose_conversion_would_not_be_applied_are_refused(make: Callable[[], FederatedData], has: str):
    terms = Terms(4, 0.0, 0, [str(digit) for digit in range(10)], 1, 1, 0.1309, 0.308)
    with pytest.raises(InputError, match=rf"the data of a site have {has}, which has no effect"):
        OwnData(make(), terms)
    with pytest.raises(InputError, match=rf"data\.held_out have {has}, which has no effect"):
        Sites(["a"], make())
    assert len(OwnData(MNIST5k(), terms).train) == 4000
