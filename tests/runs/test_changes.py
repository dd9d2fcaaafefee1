"""Settings that differ on a resume: each takes effect and is reported, or is refused."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fedlit.cli import main
from fedlit.core.checkpoint import read
from fedlit.core.errors import InputError
from fedlit.runs.changes import PLACE, Change, changes, refuse, with_effect

# --- every setting ---------------------------------------------------------------------------------------------------

#: Commands whose configs have, between them, every setting of the sections below.
COMMANDS = {
    "defaults": "",
    "other classes": (
        "--data fedlit.data.EMNIST --data.partition fedlit.data.Dirichlet --model.mu fedlit.federated.AdaptiveMu "
        "--federation.algorithm fedlit.algorithms.AttentiveAggregation --model.loss torch.nn.CrossEntropyLoss "
        "--federation.stragglers fedlit.federated.PartialWork --federation.sampling fedlit.federated.SizeSampling "
        "--federation.diagnostics fedlit.federated.Diagnostics --model.net.attention fedlit.attention.Spatial "
        "--federation.engine fedlit.engines.WorkersEngine"
    ),
    "arrays": "--data fedlit.data.Tensors --data.path digits.npz",
    "synthetic data": "--data fedlit.data.Synthetic",
}

#: Settings that a resumed run cannot change; a name that ends with a dot stands for all settings of the section.
REFUSED = ("seed_everything", "federation.seed", "federation.algorithm", "model.net", "model.mu.", "data.")
#: Exceptions to those.
SAID_ALL_THE_SAME = {"data.batch_size", "data.eval_batch_size", "data.root", "data.path", "data.download"}
#: Takes effect and is said; every other setting has to be put into one of these lists.
SAID = (
    "trainer.",
    "model.mu",
    "model.client_optimizer.",
    "model.server_optimizer.",
    "model.loss",
    "model.client_schedule",
    "model.server_schedule",
    "model.client_clip_norm",
    "model.client",
    "federation.clients_per_round",
    "federation.local_epochs",
    "federation.sampling",
    "federation.averaging",
    "federation.stragglers",
    "federation.diagnostics",
    "federation.engine",
    "federation.tune_allocator",
    "federation.max_rejected",
)


def config(words: str) -> Any:
    """What ``fedlit fit WORDS --print_config`` prints, read."""
    printed = io.StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        main(["fit", *words.split(), "--print_config"])
    return yaml.safe_load(printed.getvalue())


def leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all values that are not sections, without the ``class_path`` of classes."""
    if not isinstance(tree, dict) or not tree:
        yield path
        return
    for name, value in tree.items():
        if name != "class_path":
            yield from leaves(value, (*path, name))


def changed(tree: Any, path: tuple[str, ...]) -> Any:
    name, *within = path
    return tree | {name: changed(tree[name], tuple(within)) if within else "another value"}


def listed(key: str, names: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith(name if name.endswith(".") else f"{name}.") for name in names)


@pytest.mark.parametrize("words", COMMANDS.values(), ids=list(COMMANDS))
def test_each_changed_setting_is_reported_or_refused_by_its_key(words: str) -> None:
    tree = config(words)
    for path in leaves(tree):
        key = ".".join(part for part in path if part != "init_args")
        found = changes(tree, changed(tree, path))
        if key in PLACE:
            assert not found
            continue
        (change,) = found
        assert str(change).startswith(f"{key}: ")
        assert str(change).endswith(" -> another value")
        if listed(key, REFUSED) and key not in SAID_ALL_THE_SAME:
            with pytest.raises(InputError, match=rf"cannot be resumed with {key}: .*config.yaml, or start a new run"):
                refuse(found)
        else:
            assert listed(key, SAID) or key in SAID_ALL_THE_SAME, f"{key} is new here: may a run go on with another?"
            refuse(found)


@pytest.mark.parametrize(
    ("words", "key", "is_refused"),
    [
        ("--model.server_optimizer Adam", "model.server_optimizer", True),
        ("--model.client_optimizer Adam", "model.client_optimizer", False),
        ("--model.mu fedlit.federated.AdaptiveMu", "model.mu", True),
        ("--model.net fedlit.models.MLP", "model.net", True),
        ("--data fedlit.data.EMNIST", "data", True),
        ("--data.partition fedlit.data.Dirichlet", "data.partition", True),
        ("--federation.algorithm fedlit.algorithms.Scaffold", "federation.algorithm", True),
        ("--federation.sampling fedlit.federated.SizeSampling", "federation.sampling", False),
        ("--federation.stragglers fedlit.federated.PartialWork", "federation.stragglers", False),
        ("--federation.engine fedlit.engines.LoopEngine", "federation.engine", False),
    ],
)
def test_another_class_is_one_change_with_its_arguments(words: str, key: str, is_refused: bool) -> None:
    (change,) = changes(config(""), config(words))
    assert change.key == key
    assert f"{words.split()[-1].rpartition('.')[2]}(" in str(change)
    assert change.is_allowed != is_refused


def listed_callbacks(*monitored: str) -> list[dict[str, Any]]:
    of = {"dirpath": None, "filename": None, "verbose": False}
    return [{"class_path": "a.ModelCheckpoint", "init_args": {**of, "monitor": each}} for each in monitored]


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (listed_callbacks("x"), listed_callbacks("y"), "...monitor=x)] -> ...monitor=y)]"),
        (listed_callbacks("x"), listed_callbacks("x", "y"), "...monitor=x)] -> ...monitor=x), a.ModelCheckpoint("),
        ("a " * 40 + "b", "a " * 40 + "c", "...b -> ...c"),
    ],
)
def test_long_values_are_shown_from_where_they_differ(before: Any, now: Any, said: str) -> None:
    assert str(Change("trainer.callbacks", before, now)).startswith(f"trainer.callbacks: {said}")


def test_a_setting_unknown_to_an_earlier_version_is_never_refused() -> None:
    def data(**arguments: int | None) -> dict[str, Any]:
        return {"data": {"class_path": "a.B", "init_args": arguments}}

    (change,) = found = changes(data(size=2), data(size=2, fold=3))
    assert str(change) == "data.fold: nothing -> 3"
    refuse(found)
    assert changes(data(size=2), data(size=2, fold=None)) == []


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"a": 1}),
        ({"a": 1}, {}),
        ({}, {"a": 1}),
        ({"a": {"x": 1}}, {"a": {"x": 1, "y": 2}}),
    ],
)
@pytest.mark.parametrize("place", ["init_args", "dict_kwargs"])
def test_a_dict_is_one_value_whose_keys_are_no_settings(before: Any, now: Any, place: str) -> None:
    """A key that is added to it is not a setting that an earlier version did not know."""
    first, second = (
        {"model": {"net": {"class_path": "a.B", place: {"names": names} if place == "init_args" else names}}}
        for names in (before, now)
    )
    (change,) = changes(first, second)
    assert change.key == ("model.net.names" if place == "init_args" else "model.net.dict_kwargs")
    assert (change.before, change.now) == (before, now)
    assert change.affects_results
    with pytest.raises(InputError, match="cannot be resumed with"):
        refuse([change])


def test_keyword_arguments_of_a_function_that_come_later_are_a_change() -> None:
    first, second = ({"model": {"net": {"class_path": "a.B", **more}}} for more in ({}, {"dict_kwargs": {"k": 1}}))
    assert [str(change) for change in changes(first, second)] == ["model.net.dict_kwargs: {} -> {'k': 1}"]
    with pytest.raises(InputError, match="cannot be resumed with"):
        refuse(changes(first, second))


# --- runs that go on -------------------------------------------------------------------------------------------------

TINY = (
    "--trainer.accelerator=cpu --model.net.widths=[2] --model.net.hidden=4 --data.num_clients=8 --name=run "
    "--federation.clients_per_round=3 --federation.local_epochs=0.2 --federation.engine=fedlit.engines.LoopEngine"
).split()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The logs of a run of one round."""
    logs = tmp_path_factory.mktemp("stopped")
    assert main(["fit", *TINY, f"--logs_dir={logs}", "--trainer.max_epochs=1"]) == 0
    return logs


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "logs")) / "run" / "version_0"


def go_on(run: Path, *more: str, to: str = "last") -> int:
    return main(["fit", *TINY, f"--logs_dir={run.parents[1]}", "--trainer.max_epochs=2", f"--ckpt_path={to}", *more])


def weights(run: Path) -> torch.Tensor:
    return torch.cat([t.reshape(-1) for t in read(run / "checkpoints" / "last.ckpt")["state_dict"].values()])


def last_row(run: Path) -> dict[str, str]:
    return list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))[-1]


@pytest.mark.parametrize("optimizer", ["server", "client"])
def test_a_changed_learning_rate_takes_effect_and_the_configs_say_what_ran(
    optimizer: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, config_before = weights(run), (run / "config.yaml").read_text()
    capsys.readouterr()
    assert go_on(run, f"--model.{optimizer}_optimizer.lr=0") == 0
    assert torch.equal(weights(run), before)  # a rate of 0 moves nothing
    said = capsys.readouterr().out
    was = {"server": 1.0, "client": 0.1}[optimizer]
    assert f"\nmodel.{optimizer}_optimizer.lr: {was} -> 0.0 from round 2 on\n" in said
    assert "\ntrainer.max_epochs: 1 -> 2 from round 2 on\n" in said
    assert said.count(" -> ") == 2
    arguments = yaml.safe_load((run / "config.yaml").read_text())["model"][f"{optimizer}_optimizer"]["init_args"]
    assert arguments["lr"] == 0
    assert (run / "config_until_round_1.yaml").read_text() == config_before


def test_the_earlier_config_is_taken_from_the_checkpoint_even_if_the_file_was_edited(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = run / "config.yaml"
    file.write_text(file.read_text().replace("mu: 0.01", "mu: 0.5"))
    words = [f"--config={file}", f"--logs_dir={run.parents[1]}", "--trainer.max_epochs=2", "--ckpt_path=last"]
    assert main(["fit", *words]) == 0
    assert "\nmodel.mu: 0.01 -> 0.5 from round 2 on\n" in capsys.readouterr().out
    assert last_row(run)["federation/mu"] == "0.5"


@pytest.mark.parametrize(
    ("words", "column", "value"),
    [
        ("--federation.clients_per_round=4", "round/epochs_asked", 0.8),
        ("--federation.stragglers=fedlit.federated.PartialWork --federation.stragglers.drop=true", "round/dropped", 2),
        ("--federation.local_epochs=1", "round/epochs_asked", 3),
    ],
)
def test_a_changed_federation_shows_in_the_next_round(words: str, column: str, value: float, run: Path) -> None:
    assert go_on(run, *words.split()) == 0
    assert float(last_row(run)[column]) == pytest.approx(value)


def test_a_run_resumed_without_changes_reports_none(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert go_on(run) == 0
    capsys.readouterr()
    assert go_on(run) == 0
    assert "->" not in capsys.readouterr().out
    assert not (run / "config_until_round_2.yaml").exists()


@pytest.mark.parametrize(
    "words",
    [
        "--seed_everything=1",
        "--data.seed=1",
        "--data.num_clients=9",
        "--data.client_holdout=0.1",
        "--data.partition=fedlit.data.Dirichlet",
        "--model.net.dropout=0.5",
        "--model.server_optimizer=Adam",
        "--model.mu=fedlit.federated.AdaptiveMu",
        "--federation.algorithm=fedlit.algorithms.Scaffold",
        "--name=other",
        "--version=other",
    ],
)
def test_a_change_that_is_not_allowed_is_one_line_and_leaves_the_run_unchanged(
    words: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    capsys.readouterr()
    assert go_on(run, words, to=str(run / "checkpoints" / "last.ckpt")) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == ""
    assert words.partition("=")[0].removeprefix("--") in line
    assert (
        "; leave it as in the run's config.yaml, or start a new run" in line
        or "copy the checkpoint to another folder" in line
    )
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


CPU, GPU = "32-true", "bf16-mixed"


@pytest.mark.parametrize(
    ("before", "now", "precisions", "told"),
    [
        ({"accelerator": "cpu"}, {"accelerator": "auto"}, (CPU, CPU), []),
        ({"accelerator": "cpu"}, {"accelerator": "auto"}, (CPU, GPU), [f"trainer.precision: {CPU} -> {GPU}"]),
        ({"accelerator": "auto"}, {"accelerator": "auto"}, (CPU, GPU), [f"trainer.precision: {CPU} -> {GPU}"]),
        ({"accelerator": "auto"}, {"accelerator": "auto"}, (None, GPU), []),
        ({"accelerator": "cpu"}, {"accelerator": "auto"}, (None, GPU), ["trainer.accelerator: cpu -> auto"]),
        ({"precision": GPU}, {}, (GPU, GPU), []),
        ({"precision": CPU}, {}, (None, GPU), [f"trainer.precision: {CPU} -> auto"]),
        ({"precision": CPU, "accelerator": "cpu"}, {"precision": CPU, "accelerator": "gpu"}, (None, None), []),
        ({"devices": 1}, {"devices": 2, "accelerator": "auto"}, (None, None), []),
    ],
)
def test_a_precision_that_the_machine_chooses_affects_results(
    before: dict[str, Any], now: dict[str, Any], precisions: tuple[str | None, str | None], told: list[str]
) -> None:
    configs = ({"trainer": {"precision": "auto", "strategy": "auto", **trainer}} for trainer in (before, now))
    assert [str(each) for each in with_effect(*configs, *precisions)] == told
