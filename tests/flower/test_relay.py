"""The relay process starts the training process if there is none, or if it has ended."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from test_command import federation

from fedlit.core.errors import InputError
from fedlit.flower.frame import Frame, pack, unpack
from fedlit.flower.kinds import FAILURE, GREETING, INTRODUCTION
from fedlit.flower.relay import relay
from fedlit.flower.wire import Terms

GREETED = pack(Frame(GREETING.name, *Terms(4, 0.0, 0, ["0", "1", "2"], 1, 3, 0.1, 0.3).parts()))


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A socket folder for this test only."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")  # it is to outlive who has started it
def test_a_task_starts_the_training_process_and_starts_an_ended_one_again(alone: Path):
    words = ["--config", str(federation(alone))]
    site = alone / "north.yaml"
    site.write_text(yaml.safe_dump({**yaml.safe_load(site.read_text()), "keep_alive_s": 0}))
    for _ in range(2):
        found = unpack(relay(GREETED, site, alone / "project", words, 1), INTRODUCTION, FAILURE)
        assert (found.values["name"], found.values["examples"]) == ("north", 20)
    assert (alone / f"fedlit-site-{os.getuid()}").stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_a_process_that_does_not_start_is_reported_with_its_last_line(alone: Path):
    (alone / "site.yaml").write_text("name: [")
    with pytest.raises(RuntimeError, match=r"the training process did not start: .*not valid YAML"):
        relay(GREETED, alone / "site.yaml", alone, [], 1)


def test_a_folder_that_others_can_access_is_refused(alone: Path):
    folder = alone / f"fedlit-site-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(InputError, match="can be accessed by other users; remove it, or set TMPDIR"):
        relay(b"", alone / "site.yaml", alone, [], 1)
