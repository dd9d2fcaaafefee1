"""A run has the same files wherever its folder is and however its path is given."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from contents import contents

from fedlit.cli import main
from fedlit.core.checkpoint import CheckpointFile, read
from fedlit.runs.checkpoints import anchored

pytestmark = pytest.mark.trust

ROUNDS = 5
TINY = (
    "--trainer.accelerator=cpu --model.net.widths=[2] --model.net.hidden=4 --data.num_clients=8 --name=run "
    "--federation.clients_per_round=2 --federation.local_epochs=0.1 --federation.engine=fedlit.engines.LoopEngine "
    "--model.client_optimizer=SGD --model.client_optimizer.lr=0.7 --federation.algorithm=fedlit.algorithms.Scaffold"
).split()
FILES = ("last.ckpt", "previous.ckpt", "best.ckpt")


def fit(logs: str | Path, rounds: int = ROUNDS, *more: str) -> int:
    return main(["fit", *TINY, f"--logs_dir={logs}", f"--trainer.max_epochs={rounds}", *more])


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped, whose best round is not its last."""
    logs = tmp_path_factory.mktemp("straight") / "logs"
    assert fit(logs) == 0
    run = logs / "run" / "version_0"
    assert 1 < read(run / "checkpoints" / "best.ckpt")["global_step"] < ROUNDS
    return run


def stay(folder: Path) -> str:
    return "logs"


def name_it_absolutely(folder: Path) -> str:
    return str(folder / "logs")


def go_elsewhere(folder: Path) -> str:
    (folder / "elsewhere").mkdir()
    os.chdir(folder / "elsewhere")
    return "../logs"


def move_the_run(folder: Path) -> str:
    (folder / "moved").mkdir()
    (folder / "logs").rename(folder / "moved" / "logs")
    return "moved/logs"


def go_by_a_link(folder: Path) -> str:
    (folder / "link").symlink_to(folder / "logs")
    return "link"


PLACES = [stay, name_it_absolutely, go_elsewhere, move_the_run, go_by_a_link]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """The folder of a run stopped after some rounds, with an absolute or relative logs_dir; made once."""
    made: dict[tuple[str, int], Path] = {}

    def begin(named: str, rounds: int) -> Path:
        if (named, rounds) not in made:
            folder = made[named, rounds] = tmp_path_factory.mktemp("begun")
            os.chdir(folder)
            assert fit("logs" if named == "relative" else folder / "logs", rounds) == 0
        return made[named, rounds]

    return begin


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("named", ["relative", "absolute"])
def test_a_run_resumed_from_another_folder_ends_with_the_same_files(
    place: Callable[[Path], str], named: str, begun: Callable[[str, int], Path], straight: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    best = read(straight / "checkpoints" / "best.ckpt")["global_step"]
    shutil.copytree(begun(named, best), tmp_path, dirs_exist_ok=True)
    os.chdir(tmp_path)
    logs = place(tmp_path)
    assert fit(logs, ROUNDS, "--ckpt_path=last") == 0  # every round that is left is worse than the best
    assert contents(Path(logs, "run", "version_0")) == contents(straight)


@pytest.mark.parametrize("place", [stay, move_the_run])
@pytest.mark.parametrize("damaged", FILES)
def test_the_files_of_a_run_survive_a_fall_back_to_another_of_them(
    damaged: str, place: Callable[[Path], str], begun: Callable[[str, int], Path], straight: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    shutil.copytree(begun("relative", ROUNDS - 1), tmp_path, dirs_exist_ok=True)
    os.chdir(tmp_path)
    logs = place(tmp_path)
    run = Path(logs, "run", "version_0")
    (run / "checkpoints" / damaged).write_bytes(b"PK")
    assert fit(logs, ROUNDS, "--ckpt_path=last") == 0
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == sorted(FILES)
    ours, theirs = contents(run), contents(straight)
    if damaged == "best.ckpt":  # it is gone: now it is the best of the rounds that were left
        del ours["checkpoints/best.ckpt"], theirs["checkpoints/best.ckpt"]
        assert read(run / "checkpoints" / "best.ckpt")["global_step"] == ROUNDS
    assert ours == theirs


def test_an_early_run_with_relative_paths_can_be_resumed(
    begun: Callable[[str, int], Path], straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint of early versions: with states of plain ModelCheckpoints and relative paths."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(begun("relative", ROUNDS - 1), tmp_path, dirs_exist_ok=True)
    os.chdir(tmp_path)
    run = Path("logs/run/version_0")
    checkpoint = read(run / "checkpoints" / "last.ckpt")
    states = checkpoint["callbacks"]
    options = "'every_n_train_steps': 0, 'every_n_epochs': 1, 'train_time_interval': None"
    for name, key in (
        ("best", "'monitor': 'global/accuracy', 'mode': 'max'"),
        ("last", "'monitor': None, 'mode': 'min'"),
    ):
        state = states.pop(f"fedlit.{name}")
        path = str(run / "checkpoints" / f"{name}.ckpt")
        models = dict.fromkeys([path] if state["best_k_models"] else [], state["best_model_score"])
        state |= {"dirpath": str(run / "checkpoints"), "best_model_path": path, "best_k_models": models}
        states[f"ModelCheckpoint{{{key}, {options}}}"] = state | ({"kth_best_model_path": path} if models else {})
    CheckpointFile().save_checkpoint(checkpoint, run / "checkpoints" / "last.ckpt")
    assert fit("logs", ROUNDS, "--ckpt_path=last") == 0
    assert contents(run) == contents(straight)


def test_the_best_checkpoint_of_repeated_rounds_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    CheckpointFile().save_checkpoint({"state_dict": {}, "global_step": 3, "fedlit": {}}, path)
    state = {
        "best_model_path": "old/best.ckpt", "kth_best_model_path": "old/best.ckpt", "last_model_path": "",
        "best_k_models": {"old/best.ckpt": 0.5}, "dirpath": "old",
    }  # fmt: skip
    assert anchored(state, tmp_path, finished=2) is None
    assert anchored(state, tmp_path, finished=3) == {
        "best_model_path": str(path), "kth_best_model_path": str(path), "last_model_path": "",
        "best_k_models": {str(path): 0.5}, "dirpath": str(tmp_path),
    }  # fmt: skip


OWN = (
    "--trainer.callbacks+=ModelCheckpoint --trainer.callbacks.monitor=global/accuracy --trainer.callbacks.mode=max "
    "--trainer.callbacks.filename={epoch}-{global/accuracy:.3f}-{global/loss:.3f}"
).split()


def test_own_checkpoints_with_metrics_in_their_names_are_kept_and_resumed_from(straight: Path, tmp_path: Path) -> None:
    """The slashes of the metrics make folders."""
    best = read(straight / "checkpoints" / "best.ckpt")["global_step"]
    assert fit(tmp_path, best, *OWN) == 0
    assert fit(tmp_path, ROUNDS, *OWN, "--ckpt_path=last") == 0  # every round that is left is worse
    run = tmp_path / "run" / "version_0"
    (own,) = (run / "own_checkpoints").rglob("*.ckpt")
    assert read(own)["global_step"] == best
    assert fit(tmp_path, ROUNDS, *OWN, f"--ckpt_path={own}") == 0
    assert [path.name for path in run.parent.iterdir()] == [run.name]
    theirs = contents(straight)
    same = {name for name in theirs if name != "config.yaml" and not name.startswith("checkpoints")}
    assert {name: each for name, each in contents(run).items() if name in same} == {name: theirs[name] for name in same}
