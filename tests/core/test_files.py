"""Files that are replaced atomically."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from fedlit.core.errors import InputError
from fedlit.core.files import (
    atomic_write,
    find_write_error,
    free_name,
    is_name_of,
    quiet_threads,
    read_object,
    refuse_special,
    require_regular,
    writing,
)

pytestmark = pytest.mark.trust


def test_the_file_is_the_old_one_until_all_of_the_new_one_is_written(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.txt"
    for text in ("old", "new"):
        with atomic_write(path) as file:
            file.write(text)
            assert not path.exists() or path.read_text() == "old"
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_is_named_with_the_file_and_leaves_the_old_one(tmp_path: Path, file_size_limit: Any) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with (
        file_size_limit(1000),
        pytest.raises(InputError, match=r"cannot write .*a.txt: .*; free space or raise the limit, then resume with"),
        atomic_write(path) as file,
    ):
        file.write("x" * 100_000)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "free space"), (errno.EROFS, "make it writable"), (errno.EACCES, "another --logs_dir")],
)
def test_a_write_error_is_found_among_an_errors_causes(number: int, remedy: str) -> None:
    try:
        try:
            raise OSError(number, "no", "some.csv")
        except OSError as error:
            raise RuntimeError("the logger failed") from error
    except RuntimeError as error:
        told = find_write_error(error)
    assert told is not None
    assert str(told).startswith("cannot write some.csv: no; ")
    assert remedy in str(told)


def test_other_errors_are_not_write_errors() -> None:
    assert find_write_error(FileNotFoundError(errno.ENOENT, "No such file")) is None
    assert find_write_error(KeyError("a")) is None


def test_any_failure_to_write_names_the_file() -> None:
    with (
        pytest.raises(InputError, match="cannot write events: Input/output error; check"),
        writing("events"),
    ):
        raise OSError(errno.EIO, "Input/output error")


def test_only_write_errors_of_threads_are_silenced(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda failed: shown.append(failed.exc_type))

    def fail(error: Exception) -> None:
        raise error

    with quiet_threads():
        for error in (OSError(errno.ENOSPC, "No space left on device"), KeyError("a")):
            thread = threading.Thread(target=fail, args=(error,))
            thread.start()
            thread.join()
    assert shown == [KeyError]


def test_a_fifo_is_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    assert require_regular(tmp_path / "file") == tmp_path / "file"
    assert require_regular(tmp_path) == tmp_path
    with pytest.raises(OSError, match="a FIFO, a socket or a device"):
        require_regular(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        require_regular(tmp_path / "none")


@pytest.mark.parametrize("word", ["{}", "--data={}", "--data.path={}"])
def test_a_word_that_names_a_fifo_is_refused(word: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refuse_special(["fit", 1, None, "x" * 5000, "a\0b", "", "=", word.format(tmp_path), word.format(tmp_path / "none")])
    with pytest.raises(InputError, match="pipe: it is not a file but a FIFO"):
        refuse_special(["fit", word.format(tmp_path / "pipe")])


@pytest.mark.parametrize("content", ["null", "[1]", "1", '"a"', "", "{", "\xff", "[" * 100_000, "9" * 5000])
def test_a_record_that_is_not_a_json_object_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    assert read_object(path) == {}
    path.write_text('{"a": 1}')
    assert read_object(path) == {"a": 1}
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=r"run\.json is not a record that fedlit wrote") as refused:
        read_object(path)
    assert len(str(refused.value).splitlines()) == 1


def test_a_free_name_is_that_of_no_folder_with_files(tmp_path: Path) -> None:
    (tmp_path / "it").mkdir()
    assert free_name(tmp_path, "it") == "it"
    (tmp_path / "it" / "file").touch()
    (tmp_path / "it-v1").touch()
    assert free_name(tmp_path, "it") == "it-v2"
    assert all(is_name_of(name, "it") for name in ("it", "it-v1", "it-v20"))
    assert not any(is_name_of(name, "it") for name in ("../it", "it-v", "it-v1/..", "is", "/it"))
