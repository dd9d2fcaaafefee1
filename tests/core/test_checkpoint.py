"""Checkpoint files: complete or refused, and loaded without running code."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedlit.core.checkpoint import FORMAT, BrokenCheckpointError, CheckpointFile, check_format, read, write
from fedlit.core.errors import InputError

pytestmark = pytest.mark.trust

CONTENT: dict[str, Any] = {
    "state_dict": {"w": torch.arange(12.0).view(3, 4)},
    "global_step": 7,
    "fedlit": {"format": 1, "federation seed": 3},
}


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.target, "it ran"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write(CONTENT, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def sealed() -> bytes:
    """The bytes of a whole checkpoint."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        write(CONTENT, Path(folder) / "a.ckpt")
        return (Path(folder) / "a.ckpt").read_bytes()


WHOLE = sealed()


def assert_same(checkpoint: dict[str, Any]) -> None:
    assert torch.equal(checkpoint["state_dict"]["w"], CONTENT["state_dict"]["w"])
    assert checkpoint["global_step"] == 7
    assert checkpoint["fedlit"] == {"format": FORMAT, "federation seed": 3}


# --- whole -----------------------------------------------------------------------------------------------------------


def test_what_was_written_is_read_and_its_format_is_2(file: Path) -> None:
    assert_same(read(file))
    assert CONTENT["fedlit"]["format"] == 1  # the saved value is not changed


def test_other_readers_of_torch_files_and_of_zip_archives_take_it(file: Path) -> None:
    assert_same(torch.load(file, weights_only=True))
    assert_same(torch.load(file, weights_only=True, mmap=True))
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(b"fedlit sha256 ")


def test_a_file_of_format_1_has_no_checksum_and_is_read(tmp_path: Path) -> None:
    torch.save(CONTENT, tmp_path / "old.ckpt")
    assert read(tmp_path / "old.ckpt")["fedlit"]["format"] == 1


# --- damaged ---------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(WHOLE) - 1))
def test_a_file_that_was_cut_off_is_refused(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.ckpt"
    path.write_bytes(WHOLE[:size])
    with pytest.raises(BrokenCheckpointError, match=r"cut.ckpt is not a complete checkpoint: .*; use --ckpt_path"):
        read(path)


@settings(max_examples=300, deadline=None)
@given(st.sets(st.integers(0, 8 * len(WHOLE) - 1), min_size=1, max_size=8))
def test_flipped_bits_are_found_or_change_nothing(tmp_path_factory: pytest.TempPathFactory, bits: set[int]) -> None:
    damaged = bytearray(WHOLE)
    for bit in bits:
        damaged[bit // 8] ^= 1 << bit % 8
    path = tmp_path_factory.getbasetemp() / "flipped.ckpt"
    path.write_bytes(damaged)
    try:
        checkpoint = read(path)
    except BrokenCheckpointError:
        return
    assert_same(checkpoint)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.integers(0, len(WHOLE)))
def test_files_of_other_kinds_are_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes, kept: int) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.ckpt"
    path.write_bytes(WHOLE[:kept] + noise)
    if path.read_bytes() == WHOLE:
        assert_same(read(path))
        return
    try:
        checkpoint = read(path)
    except BrokenCheckpointError:
        return
    assert_same(checkpoint)


def test_a_flipped_bit_in_a_weight_is_named_as_such(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[content.find(torch.arange(12.0).numpy().tobytes()) + 5] ^= 1
    file.write_bytes(content)
    loaded: Tensor = torch.load(file, weights_only=True)["state_dict"]["w"]
    assert not torch.equal(loaded, CONTENT["state_dict"]["w"])  # torch does not see it
    with pytest.raises(BrokenCheckpointError, match="its checksum does not match its content"):
        read(file)


def test_an_empty_file_a_text_and_a_missing_file_have_messages_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "some.ckpt"
    for content, said in ((b"", "it is empty"), (b"round 3\n", "not an archive of torch.save")):
        path.write_bytes(content)
        with pytest.raises(BrokenCheckpointError, match=said):
            read(path)
    for path, said in ((tmp_path / "none.ckpt", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(BrokenCheckpointError, match=said):
            read(path)


# --- of others -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["archive", "archive with a checksum", "old torch format", "plain pickle"])
def test_code_in_a_checkpoint_is_refused_and_not_run(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedlit.core.checkpoint.check_data", lambda _: None)  # the writer means harm
    target, path = tmp_path / "ran", tmp_path / "evil.ckpt"
    evil = {**CONTENT, "callbacks": Payload(target)}
    if kind == "archive with a checksum":
        write(evil, path)
    elif kind == "plain pickle":
        path.write_bytes(pickle.dumps(evil))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=kind == "archive")
    with pytest.raises(BrokenCheckpointError, match=r"was not loaded|not an archive of torch.save"):
        read(path)
    with pytest.raises(BrokenCheckpointError):
        CheckpointFile().load_checkpoint(path, weights_only=False)
    assert not target.exists()


def test_the_payload_of_the_previous_test_runs_if_it_is_unpickled(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(Payload(tmp_path / "ran"), buffer)
    buffer.seek(0)
    torch.load(buffer, weights_only=False)
    assert (tmp_path / "ran").read_text() == "it ran"


def test_a_newer_format_is_refused_with_the_remedy(tmp_path: Path) -> None:
    torch.save({**CONTENT, "fedlit": {"format": FORMAT + 1}}, tmp_path / "new.ckpt")
    with pytest.raises(BrokenCheckpointError, match=rf"format {FORMAT + 1}, .* reads 1 to {FORMAT}; upgrade fedlit"):
        read(tmp_path / "new.ckpt")
    with pytest.raises(InputError, match="upgrade fedlit"):
        check_format({"fedlit": {"format": FORMAT + 1}})


def test_a_checkpoint_of_another_program_is_refused(tmp_path: Path) -> None:
    for other in ({"state_dict": {}, "global_step": 1}, {"epoch": 1}, torch.zeros(3)):
        torch.save(other, tmp_path / "other.ckpt")
        with pytest.raises(BrokenCheckpointError, match="is not of a fedlit run"):
            read(tmp_path / "other.ckpt")


# --- Lightning's plugin ----------------------------------------------------------------------------------------------


def step(number: int) -> dict[str, Any]:
    return {**CONTENT, "global_step": number}


def steps(folder: Path) -> dict[str, int]:
    return {path.name: read(path)["global_step"] for path in folder.iterdir()}


def test_the_last_checkpoint_but_one_is_kept(tmp_path: Path) -> None:
    plugin = CheckpointFile()
    for number in (1, 2, 3):
        plugin.save_checkpoint(step(number), tmp_path / "last.ckpt")
        plugin.save_checkpoint(step(number), tmp_path / "best.ckpt")
    assert steps(tmp_path) == {"last.ckpt": 3, "previous.ckpt": 2, "best.ckpt": 3}


def test_a_broken_last_checkpoint_does_not_replace_the_previous_one(tmp_path: Path) -> None:
    plugin = CheckpointFile()
    for number in (1, 2):
        plugin.save_checkpoint(step(number), tmp_path / "last.ckpt")
    (tmp_path / "last.ckpt").write_bytes(b"")
    resumed = CheckpointFile()
    assert resumed.load_checkpoint(tmp_path / "previous.ckpt")["global_step"] == 1
    resumed.save_checkpoint(step(2), tmp_path / "last.ckpt")
    assert steps(tmp_path) == {"last.ckpt": 2, "previous.ckpt": 1}
    resumed.save_checkpoint(step(3), tmp_path / "last.ckpt")
    assert steps(tmp_path) == {"last.ckpt": 3, "previous.ckpt": 2}


def test_the_previous_checkpoint_is_kept_without_hard_links_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    plugin = CheckpointFile()
    for number in (1, 2):
        plugin.save_checkpoint(step(number), tmp_path / "last.ckpt")
    assert steps(tmp_path) == {"last.ckpt": 2, "previous.ckpt": 1}


def test_a_full_disk_leaves_both_as_they_were(tmp_path: Path, file_size_limit: Any) -> None:
    plugin = CheckpointFile()
    for number in (1, 2):
        plugin.save_checkpoint(step(number), tmp_path / "last.ckpt")
    with (
        file_size_limit((tmp_path / "last.ckpt").stat().st_size - 1),
        pytest.raises(InputError, match=r"cannot write .*last.ckpt: File too large; free space .* --ckpt_path last"),
    ):
        plugin.save_checkpoint(step(3), tmp_path / "last.ckpt")
    assert steps(tmp_path) == {"last.ckpt": 2, "previous.ckpt": 1}


def test_a_remote_file_is_left_to_lightning() -> None:
    plugin = CheckpointFile()
    plugin.save_checkpoint(CONTENT, "memory://fedlit/last.ckpt")
    assert plugin.load_checkpoint("memory://fedlit/last.ckpt")["global_step"] == 7
