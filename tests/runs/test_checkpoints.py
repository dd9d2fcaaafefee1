"""Damaged or unwritable checkpoints: the message, and the same bits at the end."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from contents import contents
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import SingleDeviceStrategy
from tiny import ROUNDS, TINY, fit

from fedlit.cli import main
from fedlit.command.trainer import Trainer
from fedlit.core.checkpoint import CheckpointFile, read

pytestmark = pytest.mark.trust

FILES = ("last.ckpt", "previous.ckpt", "best.ckpt")


def resume(logs: Path) -> int:
    return fit(logs, ROUNDS, "--ckpt_path=last")


@pytest.fixture
def logs(stopped: Path, tmp_path: Path) -> Path:
    """A copy of the stopped run."""
    return Path(shutil.copytree(stopped, tmp_path / "logs"))


def checkpoints(logs: Path) -> Path:
    return logs / "run" / "version_0" / "checkpoints"


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


def assert_same(run: Path, straight: Path) -> None:
    assert contents(run) == contents(straight)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# --- broken ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("damage", "said"), [(empty, "it is empty"), (cut_off, "it is truncated"), (flip, "checksum")])
def test_if_last_is_damaged_the_run_resumes_from_previous_with_the_same_bits(
    damage: Callable[[Path], None], said: str, logs: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = checkpoints(logs) / "last.ckpt"
    damage(last)
    assert resume(logs) == 0
    line = told(capsys)
    assert line.startswith(f"fedlit: warning: {last} is not a complete checkpoint: ")
    assert said in line
    assert line.endswith(f"resuming after round {ROUNDS - 2} from {last.with_name('previous.ckpt')}")
    assert_same(logs / "run" / "version_0", straight)


def test_if_previous_is_damaged_too_the_run_resumes_from_best(
    logs: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = read(checkpoints(logs) / "best.ckpt")["global_step"]
    for name in FILES[:2]:
        flip(checkpoints(logs) / name)
    assert resume(logs) == 0
    assert f"after round {best} from {checkpoints(logs) / 'best.ckpt'}" in told(capsys)
    assert_same(logs / "run" / "version_0", straight)


def test_if_all_checkpoints_are_damaged_the_resume_is_refused(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in FILES:
        flip(checkpoints(logs) / name)
    assert resume(logs) == 2
    assert told(capsys).endswith("and the run has no other intact checkpoint; start a new run without --ckpt_path")


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_a_damaged_checkpoint_given_by_path_is_refused(
    command: str, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = checkpoints(logs) / "last.ckpt"
    cut_off(last)
    before = {path: path.stat().st_mtime_ns for path in logs.rglob("*")}
    assert main([command, *TINY, f"--logs_dir={logs}", f"--ckpt_path={last}"]) == 2
    line = told(capsys)
    assert line.startswith(
        f"fedlit: error: {last} is not a complete checkpoint: it is truncated or damaged; use --ckpt_path"
    )
    assert line.endswith(f"{last.with_name('previous.ckpt')} is intact")
    assert {path: path.stat().st_mtime_ns for path in logs.rglob("*")} == before


def test_code_in_a_checkpoint_is_not_run_by_any_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "global_step": 1, "fedlit": {"format": 1}, "callbacks": Payload()}, path)
    for command in ("fit", "validate", "test", "predict"):
        assert main([command, *TINY, f"--logs_dir={tmp_path}", f"--ckpt_path={path}"]) == 2
        assert "was not loaded: it holds more than tensors and plain values" in told(capsys)
    assert not (tmp_path / "ran").exists()


def test_a_run_of_format_1_can_be_resumed(logs: Path, straight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = checkpoints(logs) / "last.ckpt"
    checkpoint = read(last)
    torch.save({**checkpoint, "fedlit": {**checkpoint["fedlit"], "format": 1}}, last)
    assert resume(logs) == 0
    assert capsys.readouterr().err == ""
    ours, theirs = contents(logs / "run" / "version_0"), contents(straight)
    assert read(checkpoints(logs) / "previous.ckpt")["fedlit"]["format"] == 1  # it is that file
    del ours["checkpoints/previous.ckpt"], theirs["checkpoints/previous.ckpt"]
    assert ours == theirs


# --- not to be written -----------------------------------------------------------------------------------------------


def test_a_file_that_cannot_grow_ends_the_run_with_one_line_and_the_run_can_be_resumed(
    logs: Path, straight: Path, file_size_limit: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: (checkpoints(logs) / name).read_bytes() for name in FILES}
    with file_size_limit(len(before["last.ckpt"]) * 9 // 10):  # the next one is of about the same size
        assert resume(logs) == 2
    line = told(capsys)
    assert line.startswith(f"fedlit: error: cannot write {checkpoints(logs)}/")
    assert line.endswith("free space or raise the limit, then resume with --ckpt_path last")
    assert {path.name: path.read_bytes() for path in checkpoints(logs).iterdir()} == before
    assert resume(logs) == 0
    assert_same(logs / "run" / "version_0", straight)


@pytest.fixture
def disk(stopped: Path, tmp_path: Path) -> Iterator[Path]:
    """The stopped run on a disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("a file system can be mounted by root only")
    try:
        shutil.copytree(stopped, folder / "logs")
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_the_run_with_one_line_and_the_run_can_be_resumed(
    disk: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs, filler = disk / "logs", disk / "filler"
    for left in (0, 4, 8, 16, 32):  # kB: it stops sooner or later, at one file or another
        filler.write_bytes(bytes(shutil.disk_usage(disk).free - left * 1024))
        before = {name: (checkpoints(logs) / name).read_bytes() for name in FILES}
        status = resume(logs)
        filler.unlink()
        if status == 0:
            break
        assert status == 2
        line = told(capsys)
        assert line.startswith("fedlit: error: cannot write ")
        assert "space" in line
        assert line.endswith("then resume with --ckpt_path last")
        assert {path.name: path.read_bytes() for path in checkpoints(logs).iterdir()} == before
    assert left > 0
    assert resume(logs) == 0
    assert_same(logs / "run" / "version_0", straight)


def test_a_read_only_folder_is_named_with_the_remedy(
    disk: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for more in (["--ckpt_path=last"], []):
        assert fit(disk / "logs", ROUNDS, *more) == 2
        line = told(capsys)
        assert line.startswith("fedlit: error: ")
        assert str(disk) in line
        assert "give another --logs_dir" in line
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert resume(disk / "logs") == 0
    assert_same(disk / "logs" / "run" / "version_0", straight)


# --- the Trainer's plugin --------------------------------------------------------------------------------------------


def test_the_trainer_writes_checksums_unless_it_is_given_another_writer() -> None:
    own = TorchCheckpointIO()
    quiet: dict[str, Any] = {"accelerator": "cpu", "logger": False}
    strategy = SingleDeviceStrategy("cpu", checkpoint_io=own)
    assert isinstance(Trainer(**quiet).strategy.checkpoint_io, CheckpointFile)
    assert Trainer(**quiet, plugins=own).strategy.checkpoint_io is own
    assert Trainer(**quiet, plugins=[own]).strategy.checkpoint_io is own
    assert Trainer(**quiet, strategy=strategy).strategy.checkpoint_io is own
    assert type(lightning.Trainer(**quiet).strategy.checkpoint_io) is TorchCheckpointIO
