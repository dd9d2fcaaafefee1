"""Checkpoints that somebody has edited and sealed again: one line that names the file, or a run that works."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fedlit.cli import main
from fedlit.core.checkpoint import read, write

pytestmark = pytest.mark.trust

TINY = (
    "--trainer.accelerator=cpu --model.net.widths=[2] --model.net.hidden=4 --data.num_clients=8 --name=run "
    "--federation.clients_per_round=3 --federation.local_epochs=0.2 --federation.engine=fedlit.engines.LoopEngine "
    "--model.server_optimizer=Adam"
).split()

Edit = Callable[[dict[str, Any]], Any]

#: What is done to a checkpoint, by what is wrong with it then. All of these are refused when the run is to go on.
REFUSED: dict[str, Edit] = {
    "no optimizer_states": lambda c: c.pop("optimizer_states"),
    "optimizer_states of nobody": lambda c: c.update(optimizer_states=[]),
    "optimizer_states that are none": lambda c: c.update(optimizer_states=[{}]),
    "optimizer_states in text": lambda c: c.update(optimizer_states="Adam"),
    "param_groups that are none": lambda c: c["optimizer_states"][0].update(param_groups=None),
    "moments of another size": lambda c: c["optimizer_states"][0]["state"][0].update(exp_avg=torch.zeros(7)),
    "global_step of 10^30": lambda c: c.update(global_step=10**30),
    "global_step below 0": lambda c: c.update(global_step=-1),
    "global_step of 0": lambda c: c.update(global_step=0),
    "another global_step than rounds": lambda c: c.update(global_step=5),
    "global_step in text": lambda c: c.update(global_step="1"),
    "global_step that is true": lambda c: c.update(global_step=True),
    "nothing of the federation": lambda c: c.update(fedlit={}),
    "fedlit in text": lambda c: c.update(fedlit="yes"),
    "fedlit without its seed": lambda c: c["fedlit"].pop("federation seed"),
    "a version that is none": lambda c: c.update({"pytorch-lightning_version": "new"}),
    "a version that is a number": lambda c: c.update({"pytorch-lightning_version": 2}),
    "no version": lambda c: c.pop("pytorch-lightning_version"),
    "no loops": lambda c: c.pop("loops"),
    "loops that are none": lambda c: c.update(loops={"fit_loop": 3}),
    "callbacks in a list": lambda c: c.update(callbacks=[1]),
    "a callback's state in text": lambda c: c["callbacks"].update(RunLog="best"),
    "a config that is none": lambda c: c["callbacks"]["KeepConfig"].update(config=3),
    "a config that is no YAML": lambda c: c["callbacks"]["KeepConfig"].update(config="{"),
    "no lr_schedulers": lambda c: c.pop("lr_schedulers"),
    "settings of an optimizer that are none": lambda c: c["fedlit"].update({"server optimizer": 3}),
    "a weight in text": lambda c: c["state_dict"].update({"net.head.2.weight": "big"}),
    "a state_dict of nothing": lambda c: c.update(state_dict={}),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The logs of a run of one round."""
    logs = tmp_path_factory.mktemp("finished")
    assert main(["fit", *TINY, f"--logs_dir={logs}", "--trainer.max_epochs=1"]) == 0
    return logs


@pytest.mark.parametrize("edit", REFUSED.values(), ids=list(REFUSED))
def test_a_run_does_not_go_on_from_it_and_says_so_in_one_line(
    edit: Edit, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = Path(shutil.copytree(finished, tmp_path / "logs"))
    file = logs / "run" / "version_0" / "checkpoints" / "last.ckpt"
    checkpoint = read(file)
    edit(checkpoint)
    if isinstance(checkpoint["fedlit"], dict):
        write(checkpoint, file)
    else:
        torch.save(checkpoint, file)
    before = {path: path.stat().st_mtime_ns for path in logs.rglob("*")}
    for command, *more in (["fit", "--trainer.max_epochs=2"], ["test"]):
        capsys.readouterr()
        status = main([command, *TINY, f"--logs_dir={logs}", *more, f"--ckpt_path={file}"])
        said = capsys.readouterr().err.splitlines()
        assert status == 2 or command == "test", said
        if status:
            (line,) = said
            assert line.startswith("fedlit: error: ")
            assert "checkpoint" in line
            assert "Traceback" not in line
        if command == "fit":
            assert {path: path.stat().st_mtime_ns for path in logs.rglob("*")} == before
